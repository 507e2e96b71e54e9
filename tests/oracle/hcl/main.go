// hcl-oracle reads documents from stdin, one JSON object {"text": "..."} per line, and answers on stdout, one line each,
// what the Go module github.com/hashicorp/hcl makes of them. It is the reference that crates/base/tests/hcl_oracle.rs
// compares the project's own parser with.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/token"
)

type question struct {
	Text string `json:"text"`
}

type answer struct {
	Accepted   bool   `json:"accepted"`
	Duplicates bool   `json:"duplicates"`
	UTF8       bool   `json:"utf8"`
	ValidJSON  bool   `json:"valid_json"`
	Error      string `json:"error,omitempty"`
	Items      []any  `json:"items"`
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<26)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.Scan() {
		var q question
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		line, err := json.Marshal(judge(q.Text))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		out.Write(append(line, '\n'))
		out.Flush()
	}
}

// judge parses one document. Values are resolved as the module's decoder does, which panics where they mean nothing.
func judge(text string) (a answer) {
	a.UTF8 = true
	a.ValidJSON = json.Valid([]byte(text))
	defer func() {
		if r := recover(); r != nil {
			a.Accepted, a.Items, a.Error = false, nil, fmt.Sprint("panic: ", r)
		}
	}()
	file, err := hcl.Parse(text)
	if err != nil && strings.Contains(err.Error(), "was already set") {
		a.Duplicates = true
		file, err = parser.ParseDontErrorOnDuplicateKeys([]byte(text))
	}
	if err != nil {
		a.Error = err.Error()
		return a
	}
	a.Items = items(file.Node.(*ast.ObjectList), &a)
	a.Accepted = true
	return a
}

func items(list *ast.ObjectList, a *answer) []any {
	out := []any{}
	for _, item := range list.Items {
		keys := []any{}
		for _, key := range item.Keys {
			keys = append(keys, text(key.Token, a))
		}
		out = append(out, map[string]any{"keys": keys, "assigned": item.Assign.Line, "value": value(item.Val, a)})
	}
	return out
}

func text(t token.Token, a *answer) string {
	s := t.Value().(string)
	if !utf8.ValidString(s) {
		a.UTF8 = false
	}
	return s
}

func value(node ast.Node, a *answer) any {
	switch n := node.(type) {
	case *ast.ObjectType:
		return map[string]any{"object": items(n.List, a)}
	case *ast.ListType:
		out := []any{}
		for _, element := range n.List {
			out = append(out, value(element, a))
		}
		return map[string]any{"list": out}
	case *ast.LiteralType:
		switch n.Token.Type {
		case token.STRING, token.HEREDOC:
			return map[string]any{"text": text(n.Token, a)}
		case token.NUMBER:
			return map[string]any{"int": fmt.Sprint(n.Token.Value())}
		case token.FLOAT:
			return map[string]any{"float": strconv.FormatUint(math.Float64bits(n.Token.Value().(float64)), 10)}
		case token.BOOL:
			return map[string]any{"bool": n.Token.Value()}
		}
	}
	panic(fmt.Sprintf("unknown node %T", node))
}
