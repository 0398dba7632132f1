#!/usr/bin/env python3
"""Makes a man page of a program's own description of itself.

    dreamcache --experimental-dump-help | Tools/manual/manual.py 1 dreamcached.8 > dreamcache.1

The program is made with swift-argument-parser, which prints its commands and options as JSON. The arguments are the section
of the page and the pages to see also. The page is roff with the macros of man(7).
"""
import json
import sys


def escaped(text):
    """Text that roff shows as it is."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    return "\n".join(r"\&" + line if line.startswith(".") else line for line in text.split("\n"))


def paragraphs(text):
    """The paragraphs of a discussion; those after the first begin with a macro of their own."""
    return "\n.PP\n".join(escaped(part) for part in text.strip().split("\n\n"))


def spelled(name):
    return ("-" if name["kind"] == "short" else "--") + name["name"]


def shown(command, hidden=("help",)):
    """The arguments to tell of. Every command has --help, and the page says so once."""
    return [
        argument for argument in command.get("arguments", [])
        if argument["shouldDisplay"] and not set(hidden) & {name["name"] for name in argument.get("names", [])}
    ]


def value(argument):
    """The value's place holder in italics."""
    return r"\fI" + escaped(argument["valueName"]) + r"\fR"


def usage(argument):
    """An argument as the synopsis has it."""
    if argument["kind"] == "positional":
        text = value(argument)
    else:
        text = r"\fB" + escaped(spelled(argument["preferredName"])) + r"\fR"
        if argument["kind"] == "option":
            text += " " + value(argument)
    if argument["isRepeating"]:
        text += " ..."
    return f"[{text}]" if argument["isOptional"] else text


def entry(argument):
    """An argument with what it means."""
    if argument["kind"] == "positional":
        head = value(argument)
    else:
        head = ", ".join(r"\fB" + escaped(spelled(name)) + r"\fR" for name in argument["names"])
        if argument["kind"] == "option":
            head += " " + value(argument)
    meaning = escaped(argument.get("abstract", ""))
    if "defaultValue" in argument:
        meaning += r" Default: \fB" + escaped(argument["defaultValue"]) + r"\fR."
    return f".TP\n{head}\n{meaning}"


def synopsis(path, arguments):
    line = r"\fB" + escaped(" ".join(path)) + r"\fR"
    return " ".join([line] + [usage(argument) for argument in arguments])


def body(command, path):
    """What a command does and takes, then what its own commands do and take."""
    parts = []
    for inner in command.get("subcommands", []):
        if inner["commandName"] == "help":
            continue
        inner_path = path + [inner["commandName"]]
        # The version is the program's.
        arguments = shown(inner, hidden=("help", "version"))
        parts.append(f'.SS "{escaped(" ".join(inner_path))}"')
        parts.append(escaped(inner["abstract"]))
        if inner.get("discussion"):
            parts.append(".PP\n" + paragraphs(inner["discussion"]))
        parts.append(".PP\n" + synopsis(inner_path, arguments))
        parts += [entry(argument) for argument in arguments]
        parts += body(inner, inner_path)
    return parts


def page(command, section, see_also):
    name = command["commandName"]
    commands = body(command, [name])
    lines = [
        r".\" Made by Tools/manual/manual.py of what the program says of itself.",
        f'.TH {name.upper()} {section} "" "DreamCache for Linux"',
        # Neither hyphens in paths nor wide gaps.
        ".nh", ".ad l",
        ".SH NAME", escaped(name) + r" \- " + escaped(command["abstract"].rstrip(".")),
        ".SH SYNOPSIS",
        synopsis([name], shown(command)) if not commands else rf"\fB{escaped(name)}\fR \fIcommand\fR [\fIoptions\fR]",
        ".SH DESCRIPTION", paragraphs(command.get("discussion", "")),
        ".SH OPTIONS",
    ]
    lines += [entry(argument) for argument in shown(command)]
    lines += [".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nShow what there is to know of the program, or of a command."]
    if commands:
        lines += [".SH COMMANDS"] + commands
    if see_also:
        references = [page.rsplit(".", 1) for page in see_also]
        lines += [".SH SEE ALSO", ",\n".join(f".BR {escaped(name)} ({number})" for name, number in references)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(json.load(sys.stdin)["command"], sys.argv[1], sys.argv[2:]), end="")
