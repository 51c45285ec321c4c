"""A page in Django's admin: what all processes have counted, and a button to invalidate."""
