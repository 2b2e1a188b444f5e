"""Who answers: what a backend and the driver agree on, how backends are found, and what they count."""
