package upstream

// The vault's paths below its base URL.
const (
	// PathExchange is the exchange: the only call that counts against the
	// budget of 20 a minute, and the only one that takes a grant token.
	PathExchange = "/v1/vault/credentials/exchange"
	// PathCredentials is the developer's: store (POST), list (GET), and with
	// "/" and an id get (GET) and delete (DELETE).
	PathCredentials = "/v1/vault/credentials"
	// PathHealth tells whether the vault is up. It is never limited.
	PathHealth = "/health"
)
