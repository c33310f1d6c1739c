"""Which scans to label next: those from which a network would learn most, unlike each other."""
