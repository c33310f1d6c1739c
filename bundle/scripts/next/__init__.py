"""Which scans to label next: those from which a network would learn most, unlike each other. It may import core, data,
doubt, inference and run."""
