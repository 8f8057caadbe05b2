"""What a fitted network answers on the test split, and how good its answers and heat maps are."""
