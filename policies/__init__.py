"""What may be cached, how alike, for how long and on whose share. Pure: no I/O, no clock, no other package
of ours."""
