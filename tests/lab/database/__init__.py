"""Sites with a database on their own host."""
