"""What nobody has to ask for: service updates come up, wait, and are applied in windows; ends of support are told.

A room of its own beside control: it decides when a change of version begins, and control carries it out.
"""
