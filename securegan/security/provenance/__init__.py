"""Who made an image, of what, and whether it is still as it was: signatures, trust, the audit log, C2PA."""
