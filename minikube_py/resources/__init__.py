"""What each API kind adds to the generic behaviour: one file a kind under this package; api.py has the interface, registry.py the list."""
