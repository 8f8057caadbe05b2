"""From a finished run to an archive: exports, quantisation, parity with torch, lineage and the .mar file."""
