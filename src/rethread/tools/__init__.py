"""Tools that the server runs itself: one package a tool."""
