"""Names, selectors, quantities, conditions, patches and the StatusError tree: pure functions of API values, no input or output."""
