"""Who may do what: people's accounts and roles, how they sign in, and what of it the services hear."""
