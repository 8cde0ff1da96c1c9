"""`armillary discover`: what accelerators a cluster or this machine has, as a section of a catalogue."""
