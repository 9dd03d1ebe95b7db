// Renders a Helm chart's templates as far as this project's chart needs: Go's own template engine, and the few functions
// that Helm adds and the chart uses. In comes {"templates": {name: text}, "data": {"Values": ...}}, out goes
// {name: rendered}; an error of a template goes to standard error, with status 1.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/template"
)

func empty(value any) bool {
	truth, ok := template.IsTrue(value)
	return !ok || !truth
}

// JSON is YAML.
func toYaml(value any) (string, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return strings.TrimSuffix(out.String(), "\n"), err
}

func indent(spaces int, text string) string {
	pad := strings.Repeat(" ", spaces)
	return pad + strings.ReplaceAll(text, "\n", "\n"+pad)
}

func functions(root *template.Template) template.FuncMap {
	return template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var out bytes.Buffer
			err := root.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
		"toYaml":     toYaml,
		"nindent":    func(spaces int, text string) string { return "\n" + indent(spaces, text) },
		"quote":      func(value any) string { return fmt.Sprintf("%q", fmt.Sprint(value)) },
		"contains":   func(part, whole string) bool { return strings.Contains(whole, part) },
		"trimSuffix": func(end, text string) string { return strings.TrimSuffix(text, end) },
		"trunc":      func(length int, text string) string { return text[:min(length, len(text))] },
		"sha256sum":  func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) },
		"int":        func(value float64) int { return int(value) },
		"fail":       func(message string) (string, error) { return "", errors.New(message) },
		"default": func(instead, value any) any {
			if empty(value) {
				return instead
			}
			return value
		},
		"required": func(message string, value any) (any, error) {
			if empty(value) {
				return nil, errors.New(message)
			}
			return value, nil
		},
	}
}

func main() {
	var asked struct {
		Templates map[string]string
		Data      map[string]any
	}
	must(json.NewDecoder(os.Stdin).Decode(&asked))
	root := template.New("chart")
	root.Funcs(functions(root))
	for name, text := range asked.Templates {
		template.Must(root.New(name).Parse(text))
	}
	rendered := map[string]string{}
	for name := range asked.Templates {
		var out bytes.Buffer
		must(root.ExecuteTemplate(&out, name, asked.Data))
		rendered[name] = out.String()
	}
	must(json.NewEncoder(os.Stdout).Encode(rendered))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
