"""Timings, printed as ratios within one run; never asserted on."""
