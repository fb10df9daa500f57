"""Keys: what is known of them (``key``), their secret bytes (``secret``) and the folder that holds them (``ring``)."""
