"""`embedpipe simulate` on the command line. It decides nothing; each module waits with what is heavy until it is called."""
