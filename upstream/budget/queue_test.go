package budget

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

// tickets makes one for each word: class letter, caller, number.
func tickets(t *testing.T, words string) map[string]*ticket {
	t.Helper()
	classes := map[byte]upstream.Class{'c': upstream.ClassCheck, 'm': upstream.ClassMiss, 'r': upstream.ClassRefresh}
	all := make(map[string]*ticket)
	for word := range strings.FieldsSeq(words) {
		class, ok := classes[word[0]]
		require.True(t, ok)
		all[word] = newTicket(upstream.NewDeparture(class, word[1:2], upstream.DepartureHooks{}))
	}
	return all
}

func TestQueueOrder(t *testing.T) {
	tests := []struct {
		name, added, want string
	}{
		{"empty", "", ""},
		{"classes", "ra1 ma1 ca1", "ca1 ma1 ra1"},
		{"checks and refreshes first come, first served", "ra1 rb1 ra2 ca1 cb1 ca2", "ca1 cb1 ca2 ra1 rb1 ra2"},
		{"misses in turns", "ma1 ma2 ma3 mb1 mc1 mc2", "ma1 mb1 mc1 ma2 mc2 ma3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all := tickets(t, tt.added)
			var q queue
			for word := range strings.FieldsSeq(tt.added) {
				q.add(all[word])
			}
			require.Equal(t, tt.want, words(&q, all))
			require.Equal(t, len(all), q.size)
		})
	}
}

// words spells the order of the queue.
func words(q *queue, all map[string]*ticket) string {
	var order []string
	for _, t := range q.order() {
		for word, other := range all {
			if t == other {
				order = append(order, word)
			}
		}
	}
	return strings.Join(order, " ")
}

func TestQueueServe(t *testing.T) {
	all := tickets(t, "ma1 ma2 ma3 mb1 mb2 ca1 ra1")
	var q queue
	for _, word := range []string{"ma1", "ma2", "mb1", "ca1", "ra1"} {
		q.add(all[word])
	}
	q.serve(all["ca1"])
	q.serve(all["ma1"])
	require.Equal(t, "mb1 ma2 ra1", words(&q, all), "a had its turn")
	q.add(all["ma3"])
	q.serve(all["mb1"])
	q.add(all["mb2"])
	require.Equal(t, "ma2 mb2 ma3 ra1", words(&q, all), "who comes back waits for the others' turns")
	q.remove(all["ma2"])
	require.Equal(t, "ma3 mb2 ra1", words(&q, all), "leaving is no turn")
	q.remove(all["ma2"])
	require.Equal(t, 3, q.size, "a second time is nothing")
	q.remove(all["ra1"])
	q.remove(all["ma3"])
	q.remove(all["mb2"])
	require.Zero(t, q.size)
	require.Empty(t, q.turns)
	require.Empty(t, q.misses, "nothing is kept of callers that are gone")
}

func TestQueueThousandOfOneDontDelayAnother(t *testing.T) {
	var q queue
	for i := range 1000 {
		q.add(newTicket(upstream.NewDeparture(upstream.ClassMiss, "greedy", upstream.DepartureHooks{})))
		_ = i
	}
	modest := newTicket(upstream.NewDeparture(upstream.ClassMiss, "modest", upstream.DepartureHooks{}))
	q.add(modest)
	require.Same(t, modest, q.order()[1])
}

func BenchmarkQueueOrder(b *testing.B) {
	var q queue
	for i := range 1000 {
		q.add(newTicket(upstream.NewDeparture(upstream.ClassMiss, fmt.Sprint(i%10), upstream.DepartureHooks{})))
	}
	b.ReportAllocs()
	for b.Loop() {
		q.order()
	}
}
