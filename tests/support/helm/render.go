// Renders a chart as `helm template` does, as far as the chart of deploy/helm needs it: the same template
// engine and the same library of functions, with Helm's own functions by its documentation. What Helm has and
// this lacks makes a chart that uses it fail here, and so do functions that Helm lacks.
//
//	render CHART RELEASE NAMESPACE < values.json
//
// Prints a JSON object: the text that each template makes, by its name.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type object = map[string]interface{}

func main() {
	if len(os.Args) != 4 {
		fail(errors.New("usage: render CHART RELEASE NAMESPACE < values.json"))
	}
	rendered, err := render(os.Args[1], os.Args[2], os.Args[3], os.Stdin)
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(rendered); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func render(chart, release, namespace string, more io.Reader) (map[string]string, error) {
	values, err := readYAML(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return nil, err
	}
	var given object
	if err := json.NewDecoder(more).Decode(&given); err != nil {
		return nil, err
	}
	merge(values, given)
	meta, err := readYAML(filepath.Join(chart, "Chart.yaml"))
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		return nil, err
	}
	all := template.New("chart").Option("missingkey=zero")
	all.Funcs(functions(all))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if _, err := all.New(filepath.Base(path)).Parse(string(text)); err != nil {
			return nil, err
		}
	}
	data := object{
		"Values":  values,
		"Chart":   object{"Name": meta["name"], "Version": meta["version"], "AppVersion": meta["appVersion"]},
		"Release": object{"Name": release, "Namespace": namespace, "Service": "Helm", "IsInstall": true},
		"Files":   files(chart),
	}
	rendered := map[string]string{}
	for _, path := range paths {
		name := filepath.Base(path)
		if strings.HasPrefix(name, "_") {
			continue
		}
		var text bytes.Buffer
		if err := all.ExecuteTemplate(&text, name, data); err != nil {
			return nil, err
		}
		// What missing values print; Helm takes it away, too.
		rendered[name] = strings.ReplaceAll(text.String(), "<no value>", "")
	}
	return rendered, nil
}

// merge puts given values over the chart's own: objects are merged, null takes a value away.
func merge(own, given object) {
	for key, value := range given {
		inner, isObject := value.(object)
		present, wasObject := own[key].(object)
		switch {
		case value == nil:
			delete(own, key)
		case isObject && wasObject:
			merge(present, inner)
		default:
			own[key] = value
		}
	}
}

func functions(all *template.Template) template.FuncMap {
	own := sprig.TxtFuncMap()
	// A chart must not see the machine that it is rendered on.
	delete(own, "env")
	delete(own, "expandenv")
	own["include"] = func(name string, data interface{}) (string, error) {
		var text strings.Builder
		err := all.ExecuteTemplate(&text, name, data)
		return text.String(), err
	}
	own["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	own["fromYaml"] = func(text string) (object, error) {
		value := object{}
		err := yaml.Unmarshal([]byte(text), &value)
		return value, err
	}
	own["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, errors.New(message)
		}
		return value, nil
	}
	return own
}

// files is the folder of the chart, without what is not there.
type files string

func (chart files) Get(name string) string {
	text, err := os.ReadFile(filepath.Join(string(chart), name))
	if err != nil {
		return ""
	}
	return string(text)
}

func readYAML(path string) (object, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	value := object{}
	err = yaml.UnmarshalStrict(text, &value)
	return value, err
}
