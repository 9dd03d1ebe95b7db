#!/bin/sh
# Plain curl; the same steps as in common.py, and the headers that say what happened.

set -eu
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

# path, body: status, X-Cache and X-Cache-Tier on one line
call() {
    curl -sS -D "$answer" -o /dev/null "$NEARHIT_URL$1" -H 'Content-Type: application/json' \
        -H "Authorization: Bearer $NEARHIT_KEY" -d "$2"
    tr -d '\r' < "$answer" | awk -F': ' '
        NR == 1 { split($0, words, " "); status = words[2] }
        tolower($1) == "x-cache" { cache = $2 }
        tolower($1) == "x-cache-tier" { tier = $2 }
        END { print status " " cache (tier ? " " tier : "") }'
}

tell() {
    if [ "$3" = "$4" ]; then said=ok; else said="'$3'"; fi
    printf '%s\t%s\t%s\n' "$1" "$2" "$said"
}

# model, whether to stream, text
body() {
    printf '{"model": "%s", "stream": %s, "max_tokens": 500, ' "$1" "$2"
    printf '"messages": [{"role": "user", "content": "%s"}]}' "$3"
}

steps() { # how, path
    how=$1 path=$2
    for stream in false true; do
        if [ $stream = false ]; then
            prefix="" other=true
            question="What is the capital of France?" paraphrase="Which city is the capital of France?"
        else
            prefix="stream " other=false
            question="How do I undo the last commit in git?" paraphrase="How can I undo my last git commit?"
        fi
        tell "$how" "${prefix}miss" "$(call "$path" "$(body demo-chat $stream "$question")")" "200 MISS"
        sleep 0.3
        tell "$how" "${prefix}exact" "$(call "$path" "$(body demo-chat $stream "$question")")" "200 HIT exact"
        tell "$how" "${prefix}paraphrase" "$(call "$path" "$(body demo-chat $stream "$paraphrase")")" "200 HIT semantic"
        tell "$how" "${prefix}other form" "$(call "$path" "$(body demo-chat $other "$question")")" "200 HIT exact"
    done
    tell "$how" error "$(call "$path" "$(body unknown-model false "What is the capital of Italy?")")" "404 MISS"
}

steps "chat completions" /v1/chat/completions
steps messages /v1/messages
