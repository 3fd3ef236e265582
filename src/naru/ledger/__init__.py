"""What requests cost: pricing (pure), reserve and settle."""
