"""Adapters behind the ports. One module a backend; each imports its vendor only where it is used."""
