"""Names of our cookies: `__Host-` has browsers take them over TLS alone, from this very host, for all of its paths."""

SESSION = "__Host-studio-session"
SIGN_IN = "__Host-studio-sign-in"  # of a form to sign in: no page of another site can fill it in for a person
PROVIDER = "__Host-studio-oidc"  # of a sign-in that an OIDC provider is asked for
