"""scripts/gatehouse-renew in a directory of its own, with doubles for the CA and for HAProxy; openssl is the real one."""
