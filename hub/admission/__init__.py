"""Who gets what is free: decided and reserved in one transaction of the database."""
