package peer

// Fact is something about a caller that is either known or, with a reason, not.
// The zero value is unknown: a fact that nobody established must never pass for
// uid 0 or for an empty list.
type Fact[T any] struct {
	value  T
	known  bool
	reason string
}

// Known returns an established fact.
func Known[T any](value T) Fact[T] { return Fact[T]{value: value, known: true} }

// Unknown returns a fact that could not be established, with the reason in
// words for a person.
func Unknown[T any](reason string) Fact[T] { return Fact[T]{reason: reason} }

// Get returns the value and whether it is known. The value of an unknown fact
// is T's zero value and means nothing.
func (f Fact[T]) Get() (T, bool) { return f.value, f.known }

// Known reports whether the fact is established.
func (f Fact[T]) Known() bool { return f.known }

// Reason says why the fact is unknown; "" if it is known.
func (f Fact[T]) Reason() string {
	if !f.known && f.reason == "" {
		return "nobody asked for it"
	}
	return f.reason
}
