"""Everything after training: files for devices, what they cost, and reading pictures with them."""
