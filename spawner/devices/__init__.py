"""The accelerators of one machine: found, counted, handed out, kept from those who do not have them."""
