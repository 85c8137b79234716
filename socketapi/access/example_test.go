package access_test

import (
	"fmt"
	"log"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/peer"
)

func Example() {
	rules, err := access.Compile([]access.Rule{
		{Name: "ci", Users: []string{"1500"}, Services: []string{"github", "npm-*"}},
		{Name: "backup", Users: []string{"root"}, Units: []string{"backup@*.service"}, Services: []string{"s3"}},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	ci := peer.As(1500, 1500)
	fmt.Println(rules.Decide(ci, "npm-public"))
	fmt.Println(rules.Decide(ci, "s3"))
	fmt.Println(rules.Decide(peer.As(0, 0), "s3").Allowed, "(root outside of the unit)")
	for _, v := range rules.Explain(ci, "s3") {
		fmt.Printf("%s: %s\n", v.Rule, v.Reason)
	}
	// Output:
	// {true ci allowed by the rule "ci"}
	// {false  no access rule allows it}
	// false (root outside of the unit)
	// ci: it is not for this service, but for github, npm-*
	// backup: the caller's user: 1500; it is for root
}

func ExampleCompile_mistakes() {
	_, err := access.Compile([]access.Rule{{Name: "ci", Services: []string{"a/b"}}}, nil)
	fmt.Println(err)
	// Output:
	// access rule "ci": no caller is named: list users, groups, units or principals, or write anyone: true
	// access rule "ci": service "a/b": no name of one has a "/" (only * and ? are special)
}
