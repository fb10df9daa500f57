"""What a user may write in a configuration: its types, its schema, its checks."""
