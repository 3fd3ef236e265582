"""What may be forgotten at any time: answers and turns kept to save work."""
