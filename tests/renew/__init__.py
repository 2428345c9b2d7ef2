"""scripts/gatehouse-renew in a directory of its own. Doubles stand for the CA and for HAProxy; openssl is real."""
