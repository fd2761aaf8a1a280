"""What runs before main.py: nothing but a quiet console. Shell."""
