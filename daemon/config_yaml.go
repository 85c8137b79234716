package daemon

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/grantexd/grantexd/socketapi/access"
)

// accessKey is the one key that is no single value: the list of access rules.
const accessKey = "access"

// yamlFile reads one configuration file into a loader. It walks the syntax tree
// instead of decoding it, so that all mistakes are told at once, and none of them
// with the line that it is in, which may hold a token.
type yamlFile struct {
	*loader
	name string
	seen map[string]int // keys, by the line that they are in
}

// yaml takes the values of a configuration file.
func (l *loader) yaml(name string, content []byte) {
	f := &yamlFile{loader: l, name: name, seen: map[string]int{}}
	if !utf8.Valid(content) {
		f.fail(name, "", "is not UTF-8 text: is it the right file?")
		return
	}
	tree, err := parser.ParseBytes(content, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		f.syntax(err)
		return
	}
	read := false
	for _, document := range tree.Docs {
		if document.Body == nil || document.Body.Type() == ast.CommentType {
			continue // only comments, or nothing
		}
		if read {
			f.fail(f.at(document.Body.GetToken()), "", "is a second document: write one only")
			return
		}
		read = true
		f.top(document.Body)
	}
}

// syntax notes that the file is no YAML.
func (f *yamlFile) syntax(err error) {
	var positioned interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if !errors.As(err, &positioned) {
		f.fail(f.name, "", "is not YAML")
		return
	}
	problem := "is not YAML here"
	// Only messages with a quotation repeat what stands in the file.
	if message := positioned.GetMessage(); !strings.Contains(message, `"`) {
		problem += ": " + message
	}
	f.fail(f.at(positioned.GetToken()), "", problem)
}

// at is the place of a token.
func (f *yamlFile) at(t *token.Token) string {
	if t == nil || t.Position == nil {
		return f.name
	}
	return fmt.Sprintf("%s:%d:%d", f.name, t.Position.Line, t.Position.Column)
}

// top reads the groups.
func (f *yamlFile) top(node ast.Node) {
	groups := groupNames()
	f.entries("", node, func(name string, key *token.Token, value ast.Node) {
		switch {
		case name == accessKey:
			f.access(key, value)
		case !slices.Contains(groups, name):
			f.unknown(key, name)
		case value.Type() != ast.NullType: // a group whose lines are all comments
			f.group(name, value)
		}
	})
}

// group reads the keys of a group.
func (f *yamlFile) group(group string, node ast.Node) {
	f.entries(group, node, func(name string, key *token.Token, value ast.Node) {
		full := group + "." + name
		k := findKey(full)
		if k == nil {
			f.unknown(key, full)
			return
		}
		f.set(k, f.at(value.GetToken()), func(field reflect.Value) error { return setNode(field, value) })
	})
}

// unknown notes a key that there is not.
func (f *yamlFile) unknown(key *token.Token, name string) {
	f.fail(f.at(key), showName(name), "is not a key of grantexd"+didYouMean(suggest(name)))
}

// entries calls visit for each entry of a mapping, and notes what is no mapping
// and what is there twice.
func (f *yamlFile) entries(path string, node ast.Node, visit func(name string, key *token.Token, value ast.Node)) {
	var values []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		f.fail(f.at(node.GetToken()), path, "must hold keys, each with a colon and a value")
		return
	}
	for _, v := range values {
		key, ok := v.Key.(*ast.StringNode)
		if !ok || v.Value == nil {
			f.fail(f.at(v.Key.GetToken()), path, "holds a key that is no plain word")
			continue
		}
		full := strings.TrimPrefix(path+"."+key.Value, ".")
		if line, twice := f.seen[full]; twice {
			f.fail(f.at(key.Token), showName(full), fmt.Sprintf("is there twice, first in line %d: remove one", line))
			continue
		}
		f.seen[full] = key.Token.Position.Line
		visit(key.Value, key.Token, v.Value)
	}
}

// access reads the rules of who may read what.
func (f *yamlFile) access(key *token.Token, node ast.Node) {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		f.fail(f.at(node.GetToken()), accessKey, "must be a list of rules, each with a dash: "+
			"[] lets nobody read anything, and without the key everybody may whom the socket lets in")
		return
	}
	names := map[string]bool{}
	f.config.Access, f.origins[accessKey] = []access.Rule{}, f.at(key)
	for i, item := range list.Values {
		path := accessKey + "[" + strconv.Itoa(i+1) + "]"
		rule, complete := f.rule(path, item)
		if complete {
			f.checkRule(item, path, i, rule, names)
		}
		f.config.Access = append(f.config.Access, rule)
	}
}

// rule reads one rule. It is not complete if there was a mistake in it.
func (f *yamlFile) rule(path string, node ast.Node) (rule access.Rule, complete bool) {
	mistakes := len(f.errs)
	f.entries(path, node, func(name string, key *token.Token, value ast.Node) {
		full := path + "." + name
		field, ok := taggedField(reflect.TypeFor[access.Rule](), name)
		if !ok {
			f.fail(f.at(key), path+"."+showName(name), "is not a key of a rule"+didYouMean(nearest(name, ruleKeys())))
			return
		}
		if err := setNode(reflect.ValueOf(&rule).Elem().FieldByIndex(field.Index), value); err != nil {
			f.fail(f.at(value.GetToken()), full, err.Error())
		}
	})
	return rule, len(f.errs) == mistakes
}

// checkRule notes what is wrong with a rule that was read.
func (f *yamlFile) checkRule(node ast.Node, path string, i int, rule access.Rule, names map[string]bool) {
	origin := f.at(node.GetToken())
	if rule.Name == "" {
		rule.Name = "rule " + strconv.Itoa(i+1) // what access calls it
	}
	if names[rule.Name] {
		f.fail(origin, path, "has the name of another rule")
	}
	names[rule.Name] = true
	_, err := access.Compile([]access.Rule{rule}, silentLookup{f.lookup})
	for _, mistake := range mistakes(err) {
		_, problem, _ := strings.Cut(hideValues(mistake.Error(), rule), `": `) // after the rule's name
		f.fail(origin, path, problem)
	}
}

// ruleKeys are the keys of an access rule.
func ruleKeys() []string {
	var names []string
	for f := range reflect.TypeFor[access.Rule]().Fields() {
		names = append(names, f.Tag.Get("yaml"))
	}
	return names
}

// setNode puts a YAML value into a field.
func setNode(field reflect.Value, node ast.Node) error {
	if field.Kind() != reflect.Slice {
		text, err := scalar(node)
		if err != nil {
			return err
		}
		return setText(field, text)
	}
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		return errors.New("must be a list, for example [a, b]")
	}
	texts := make([]string, 0, len(list.Values))
	for i, item := range list.Values {
		text, err := scalar(item)
		if err != nil {
			return fmt.Errorf("entry %d %w", i+1, err)
		}
		if text == "" || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("entry %d is empty or holds a control character", i+1)
		}
		texts = append(texts, text)
	}
	field.Set(reflect.ValueOf(texts))
	return nil
}

// scalar returns the text of a single value.
func scalar(node ast.Node) (string, error) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, nil
	case *ast.NullNode:
		return "", errors.New("has no value: give one, or remove the line")
	case *ast.SequenceNode, *ast.MappingNode, *ast.MappingValueNode:
		return "", errors.New("must be a single value")
	}
	return "", errors.New("must be a plain value, without anchors, tags and blocks")
}

// groupNames are the groups of keys.
func groupNames() []string {
	var groups []string
	for i := range keys {
		group, _, _ := strings.Cut(keys[i].Name, ".")
		if !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
	}
	return groups
}

// suggest returns the key that was probably meant, "" if none is near.
func suggest(name string) string {
	group, leaf, nested := strings.Cut(name, ".")
	dashed := strings.NewReplacer(".", "-", "_", "-").Replace(name)
	var full, groupsKeys []string
	for i := range keys {
		k := &keys[i]
		if k.Flag == dashed || strings.ReplaceAll(k.Name, ".", "-") == dashed {
			return k.Name // the flag, or the environment variable's words
		}
		full = append(full, k.Name)
		if strings.HasPrefix(k.Name, group+".") {
			groupsKeys = append(groupsKeys, k.Name)
		}
	}
	if !nested {
		return nearest(name, append(groupNames(), accessKey))
	}
	if near := nearest(name, groupsKeys); near != "" {
		return near
	}
	for _, other := range full {
		if strings.HasSuffix(other, "."+leaf) {
			return other
		}
	}
	return ""
}

func didYouMean(near string) string {
	if near == "" {
		return ""
	}
	return "; did you mean " + near + "?"
}
