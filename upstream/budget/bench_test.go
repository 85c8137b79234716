package budget

import (
	"net/http"
	"testing"

	"github.com/grantexd/grantexd/upstream"
)

// BenchmarkDeparture is one slot taken and settled, with the ledger and without.
// With 20 departures in the ledger, none of which is ever over.
func BenchmarkDeparture(b *testing.B) {
	for name, path := range map[string]string{"file": b.TempDir() + "/ledger", "memory": ""} {
		b.Run(name, func(b *testing.B) {
			budget, err := New(Options{Path: path, Limit: 21})
			if err != nil {
				b.Fatal(err)
			}
			resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}}
			dep := upstream.NewDeparture(upstream.ClassCheck, "", upstream.DepartureHooks{})
			for range 20 {
				if _, err := budget.acquire(b.Context(), dep); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				slot, err := budget.acquire(b.Context(), dep)
				if err != nil {
					b.Fatal(err)
				}
				budget.settle(slot, budget.clock.Boot(), resp)
				budget.do(func() { budget.state.drop(slot) })
			}
		})
	}
}
