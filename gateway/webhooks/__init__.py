"""Tells the casino what happened: numbers committed events and delivers them, signed, in order."""
