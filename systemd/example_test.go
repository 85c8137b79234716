package systemd_test

import (
	"context"
	"fmt"

	"github.com/grantexd/grantexd/systemd"
)

// Content goes from one process of a service to the next. Outside systemd, as
// here, nothing is kept and nothing fails.
func ExampleHandover() {
	in, err := systemd.Inherit()
	if err != nil {
		fmt.Println(err)
		return
	}
	handover, err := systemd.NewHandover("cache", in)
	if err != nil {
		fmt.Println(err)
		return
	}
	content, err := handover.Take()
	fmt.Println(len(content), err)
	fmt.Println(handover.Store([]byte("for the next process")))
	fmt.Println(handover.Remove(context.Background()))
	// Output:
	// 0 <nil>
	// <nil>
	// <nil>
}
