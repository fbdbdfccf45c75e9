"""Admission: deciding on registrations, and limiting their number."""
