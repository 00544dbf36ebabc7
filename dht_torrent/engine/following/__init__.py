"""Links that stay while their content changes (BEP 46): publishing and following them."""
