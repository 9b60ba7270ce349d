"""Stand-ins for what is outside of rethread; real sockets, scripted behaviour."""
