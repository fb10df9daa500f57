"""Pure networks; they know nothing of Lightning, attacks or defences."""
