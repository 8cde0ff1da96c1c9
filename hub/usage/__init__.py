"""Who used what, when: the ledger, its sums, and the reports made of them."""
