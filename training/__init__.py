"""From a folder of labelled images to a calibrated, explained and signed archive; numerics, I/O and jobs stay apart."""
