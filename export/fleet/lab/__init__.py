"""Robots as processes with real sockets, on links and under faults that one machine can make."""
