"""What is compared: payloads, metrics, cover trees, and what is asked of them; it knows no search."""
