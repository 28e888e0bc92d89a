// SPDX-License-Identifier: MIT

// A Varlink client that shares nothing with weft: Go's library, as Debian packages it. It asks weftd who it is, for the
// description of its interface, and for the tasks, one reply each; prints TAP.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/varlink/go/varlink"
)

const control = "io.weft.Control"

type task struct {
	ID       string `json:"id"`
	Workload string `json:"workload"`
	Coro     string `json:"coro"`
	State    string `json:"state"`
}

func getInfo(ctx context.Context, c *varlink.Connection) error {
	var vendor, product, version, url string
	var interfaces []string

	if err := c.GetInfo(ctx, &vendor, &product, &version, &url, &interfaces); err != nil {
		return err
	}
	for _, name := range interfaces {
		if name == control {
			return nil
		}
	}
	return fmt.Errorf("%s %s has the interfaces %v, and not %s", product, version, interfaces, control)
}

func getDescription(ctx context.Context, c *varlink.Connection) error {
	description, err := c.GetInterfaceDescription(ctx, control)
	if err != nil {
		return err
	}
	if !strings.Contains(description, "interface "+control) || !strings.Contains(description, "method ListTasks(") {
		return fmt.Errorf("the description is %q", description)
	}
	return nil
}

func listTasks(ctx context.Context, c *varlink.Connection) error {
	parameters := map[string]string{"workload": "naps"}
	receive, err := c.Send(ctx, control+".ListTasks", parameters, varlink.More)
	if err != nil {
		return err
	}
	n := 0
	for {
		var reply struct {
			Task *task `json:"task"`
		}

		flags, err := receive(ctx, &reply)
		if err != nil {
			return err
		}
		if reply.Task != nil {
			if reply.Task.Workload != "naps" || !strings.HasPrefix(reply.Task.ID, "naps/") || reply.Task.Coro == "" {
				return fmt.Errorf("a task is %+v", *reply.Task)
			}
			n++
		}
		if flags&varlink.Continues == 0 {
			break
		}
	}
	if n < 2 {
		return fmt.Errorf("there are %d tasks", n)
	}
	return nil
}

func noSuchTask(ctx context.Context, c *varlink.Connection) error {
	var reply json.RawMessage
	parameters := map[string]string{"id": "naps/99999999"}
	err := c.Call(ctx, control+".GetTask", parameters, &reply)

	if e, is := err.(*varlink.Error); is && e.Name == control+".NoSuchTask" {
		return nil
	}
	return fmt.Errorf("the reply is %s, %v", reply, err)
}

func main() {
	steps := []struct {
		sentence string
		run      func(context.Context, *varlink.Connection) error
	}{
		{"Go's client gets GetInfo, which names " + control, getInfo},
		{"Go's client gets the interface's description", getDescription},
		{"Go's client gets the tasks, one reply each", listTasks},
		{"Go's client gets an error by its name", noSuchTask},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	connection, err := varlink.NewConnection(ctx, os.Args[1])
	if err != nil {
		fmt.Printf("Bail out! %v\n", err)
		os.Exit(1)
	}
	status := 0
	for i, step := range steps {
		if err := step.run(ctx, connection); err != nil {
			fmt.Printf("not ok %d - %s\n# %v\n", i+1, step.sentence, err)
			status = 1
		} else {
			fmt.Printf("ok %d - %s\n", i+1, step.sentence)
		}
	}
	os.Exit(status)
}
