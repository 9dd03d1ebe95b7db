"""Each guard on texts of our own: what it must object to and let pass; and that none ever fails a call."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.guards import facts as guards_facts
from policies.guards import objections
from policies.guards.asked import _KINDS, kind_asked
from policies.guards.facts import LONGEST, Facts, facts
from policies.guards.objections import GUARDS, objection, read_ahead

LONG = "was told again and again " * 10

DIFFERENT = [
    ("negation", "he has a rash and no fever", "he has no rash and no fever"),
    ("negation", "use the app without an account", "use my account without the app"),
    ("negation", "set an expiry on a key", "remove the expiry from a key"),
    ("negation", "documents where the field exists", "documents where the field is missing"),
    ("numbers", "in 5 years he will be 40", "5 years ago he was 40"),
    (
        "numbers",
        "numbers divisible by 3 or 5 between 1 and 100",
        "numbers between 1 and 100 divisible by 3 and 5",
    ),
    ("numbers", "what does a ?? b do", "what does a ?. b do"),
    ("identifiers", "is 0.999... equal to 1", "is 0.999 equal to 1"),
    ("identifiers", "derivative of ln(x^2)", "derivative of (ln x)^2"),
    ("identifiers", "what is 9 - 3 + 2", "what is 9 + 3 - 2"),
    ("identifiers", "who owns class A shares", "who owns class B shares"),
    ("direction", "can dogs catch colds from people", "can people catch colds from dogs"),
    ("direction", "keep my version of the file", "keep their version of the file"),
    ("conditions", "sort them by size", "sort them by size descending"),
    ("conditions", "print the last column", "print all but the last column"),
    ("conditions", "a train in the morning", "a train arriving in the morning"),
    ("conditions", "the fewest shops", "the fewest shops per inhabitant"),
    ("conditions", "spent 500 in total", "spent 500 in a single order"),
    ("conditions", "the average yield in tea", "what does yield in tea mean"),
    ("conditions", "the town with the largest park", "the town with the most parks"),
    ("conditions", "show my items sorted", "show my order items"),
    ("conditions", "how many ships are there", "how many ship types are there"),
    ("conditions", "list the piers. order the results by name", "list the piers"),
    ("conditions", "what helps with severe hives", "what helps with hives"),
    ("conditions", "the largest shop of each town", "the largest shop"),
    ("conditions", "sort the names ignoring case", "sort the names"),
    ("conditions", "the running cost by week to date", "the running cost by week"),
    ("conditions", "top up someone else's phone", "top up my phone"),
    ("conditions", "round it down to tens", "round it to tens"),
    ("conditions", "what is 20% off 50", "what is 20% of 50"),
    ("conditions", "the cumulative number of visits", "the number of visits"),
    ("conditions", "who applied to join the club", "who joined the club"),
    ("negation", "forward a local port", "forward a remote port"),
    ("negation", "did the court uphold it", "did the court overturn it"),
    ("negation", "what must a lease contain", "what may a lease contain"),
    ("negation", "who rejoined the union", "who joined the union"),
    ("negation", "lines that end with a digit", "lines that contain a digit"),
    ("numbers", "files changed in the last 7 days", "files changed over 7 days ago"),
    ("identifiers", "what does no-cache mean", "what does no-store mean"),
    ("identifiers", "is std::vector::at checked", "is std::vector::data checked"),
    ("identifiers", "what is (8 - 3) x 2", "what is 8 - 3 x 2"),
    ("direction", "roll back a release", "roll out a release"),
    ("direction", "what do frogs eat", "what eats frogs"),
    ("direction", "a song by Dylan", "a song about Dylan"),
    ("direction", "how old was he when he died", "how old was he when his father died"),
    ("direction", "who taught Aristotle", "whom did Aristotle teach"),
    ("conditions", "record a video call", "record a call"),
    ("conditions", "copy the tree preserving times", "copy the tree"),
    ("conditions", "which product categories sold", "which products sold"),
    ("identifiers", "print the folder's name via grep", "print the folder's name"),
    ("identifiers", "make an archive (a.tar) of it", "make an archive (b.tar) of it"),
    ("conditions", "talk to myself", "talk to people"),
    ("conditions", "read the file in reverse", "read the file"),
    ("conditions", "mock an async function", "mock a function"),
    ("conditions", "oats instead of rice", "oats with rice"),
    ("conditions", "the index of the peak", "the peak"),
    ("conditions", "mute a thread", "mute all threads"),
    ("negation", "the difference between jam and jelly", "the similarity between jam and jelly"),
    ("identifiers", "what does find -mtime do", "what does find -newer do"),
    ("identifiers", 'run "mkdir $1 && cd $1 now"', 'run "mkdir -p $1 && cd $1 now"'),
    ("direction", "which clerks report to Ann", "which clerks does Ann report to"),
    ("direction", "an array of pointers", "a pointer to an array"),
    ("direction", "calls per agent", "agents per call"),
    ("direction", "a pointer to a const int", "a const pointer to an int"),
    ("direction", "can I break the lease", "can my landlord break the lease"),
    ("direction", "books that quote the letter", "books quoted in the letter"),
    ("direction", "who followed Queen Anne", "whom did Queen Anne follow"),
    ("direction", "send it to a friend", "get it from a friend"),
    ("numbers", "changed exactly 7 days ago", "changed in the past 7 days"),
    ("numbers", "new in Python 3.1", "new in Python 3.10"),
    ("entities", "the capital of Niger", "the capital of Niger\u200bia"),
    ("identifiers", "copy src/ to dst", "copy src to dst"),
    ("identifiers", "empty ./tmp", "empty /tmp"),
    ("identifiers", "is http://example.com safe", "is https://example.com safe"),
    ("identifiers", "open https://bit.ly/AbC", "open https://bit.ly/aBc"),
    ("identifiers", "revert 4e024a7", "revert 4e024b7"),
    ("negation", "goals in his career", "goals in a single season"),
    ("negation", "files that have a header", "files that lack a header"),
    ("exchange", f"a judge {LONG} by a clerk", f"a smith {LONG} by a baker"),
    ("conditions", "how to enable logging", "how to check whether logging is enabled"),
    ("conditions", "which clubs did Ajax buy", "which clubs has Ajax tried to buy"),
    ("conditions", "delete the folders in src", "delete the empty folders in src"),
    ("conditions", "list the clerks sorted by salary", "list the clerks sorted by age"),
    ("conditions", "list the clerks and order them by salary", "list the clerks ordered by age"),
    ("direction", "can I cancel if the flight is late", "is the flight late if I can cancel"),
    ("direction", "how many owners does each dog have", "how many dogs do the owners have"),
    ("direction", "which lakes feed the rivers", "which rivers feed the lakes"),
    ("direction", "turn a public repo private", "turn a private repo public"),
    ("question", "how many ferries run today", "how many hours do the ferries run today"),
    ("question", "what share of the pupils walk", "which of the pupils walk"),
    ("numbers", "a cat that is 2 months old", "a cat that is 2 years old"),
    ("negation", "who came second", "who came last"),
    ("negation", "stop the list from re-rendering", "make the list re-render"),
    ("additions", "birds that swim", "birds that swim but sink"),
    ("question", "What is Labor Day?", "When is Labor Day?"),
    ("negation", "what if I didn't get what I ordered", "what if I get what I ordered"),
    ("negation", "what if I do not know how to swim", "what if I know how to swim"),
    ("numbers", "a frame for a 4×6 photo", "a frame for a 3×8 photo"),
    ("negation", "I smoke twice as much", "I smoke half as much"),
    ("negation", "who owns what we bought before the wedding", "who owns what we bought during the wedding"),
    ("negation", "how do I renew my plan", "how do I stop my plan from renewing"),
    ("negation", "who starred in Alien", "who directed Alien"),
    ("conditions", "the highest peak", "the second highest peak"),
    ("conditions", "hotels in Oslo", "budget hotels in Oslo"),
    ("numbers", "divisible by 3 and 5", "divisible by 3 or 5"),
    ("numbers", "sales in fiscal year 2023", "sales of 2023 years"),
    ("question", "Is Pluto a planet?", "Was Pluto a planet?"),
    ("question", "how long will the strike last", "how long did the strike last"),
    ("question", "which teachers retired", "how many teachers retired"),
    ("identifiers", "what is 5 mW in watts", "what is 5 MW in watts"),
    ("identifiers", "How long for 1 GB at 100 Mb/s?", "How long for 1 GB at 100 MB/s?"),
    ("identifiers", "what does git branch -d do", "what does git branch -D do"),
    ("identifiers", r"what does \d match", r"what does \D match"),
    ("identifiers", "decode aGVsbG8= please", "decode AGVSBG8= please"),
    ("identifiers", "print 'hello' twice", "print 'HELLO' twice"),
    ("identifiers", "length of 'a  b'", "length of 'a b'"),
    ("identifiers", "which color is #ff0000", "which color is #00ff00"),
    ("identifiers", "run:\nif x:\n    a()\n    b()", "run:\nif x:\n    a()\nb()"),
    ("numbers", "is x > y here", "is x < y here"),
    ("numbers", "what does i += 1 do", "what does i -= 1 do"),
    ("numbers", "explain a + b", "explain a - b"),
    ("numbers", "what does ++i do", "what does i++ do"),
    ("numbers", "if (a == b) return;", "if (a != b) return;"),
    ("numbers", "explain x = y & z", "explain x = y | z"),
    ("numbers", "when to use == in JS", "when to use === in JS"),
    ("numbers", "chmod u+x file", "chmod u-x file"),
    ("numbers", "simplify 2(x + 3) - x", "simplify 2(x + 3) + x"),
    ("language", "¿Cómo activo el modo oscuro?", "¿Cómo desactivo el modo oscuro?"),
    ("language", "Wie kann ich ein Konto eröffnen?", "Wie kann ich ein Konto schließen?"),
    ("language", "Konto löschen", "Konto öffnen"),
    ("language", "Comment activer les notifications ?", "Comment désactiver les notifications ?"),
    ("language", "Come posso aprire un conto?", "Come posso chiudere un conto?"),
    ("language", "Jak otworzyć konto?", "Jak zamknąć konto?"),
    ("language", "cómo ir de Lima a Quito", "cómo ir de Quito a Lima"),
    ("language", "kufungua akaunti benki", "kufunga akaunti benki"),
    ("language", "Как открыть счёт?", "Как закрыть счёт?"),
    ("language", "怎么戒烟？", "怎么抽烟？"),
    ("language", "खाता कैसे खोलें", "खाता कैसे खालें"),
    ("language", "What does 分からない mean?", "What does 分かりました mean?"),
    ("language", "What does 🥷 mean?", "What does 🦄 mean?"),
    ("language", f"What is the preimage of {'ab12' * 32}?", f"What is the preimage of {'cd34' * 32}?"),
    ("exchange", "is there a moth in the jar", "is there a wasp in a jar"),
    ("exchange", "list shops that lease tents", "list the shops that stock tents"),
    ("additions", "ferry times to Malta", "ferry times and fares to Malta"),
    ("additions", "codes of the airports", "runways and codes of the airports"),
    ("identifiers", "the fare with code Q", "the fare with code B"),
    ("identifiers", "the size of dir1", "the size of dir2"),
    (
        "question",
        "Ada has 9 figs and eats 3. How many figs does she keep?",
        "Ada has 9 figs and eats 3. How many figs did she eat?",
    ),
    ("conditions", "list the authors", "list the distinct authors"),
    ("conditions", "the average age", "the average age for each class"),
    ("conditions", "a remedy for warts", "a natural remedy for warts"),
    ("negation", "find the author's first name", "find the author's last name"),
    ("negation", "find the author's full name", "find the author's last name"),
    ("negation", "the names of users without a card", "the ids of users with a card"),
    ("negation", "the names of users who paid", "the ids of users who have not paid"),
    ("negation", "files modified today", "files accessed today"),
    ("negation", "delete all files", "delete all directories"),
    ("negation", "liquids in checked bags", "liquids in carry-on bags"),
    ("question", "where to see whales in Iceland", "when to see whales in Iceland"),
    ("question", "where can I get a flu shot for free", "can I get a flu shot for free"),
    ("conditions", "first class flights to Denver", "the earliest first class flights to Denver"),
    ("conditions", "the city with the most rivers", "the largest city with the most rivers"),
    ("conditions", "the most beautiful lakes in Italy", "the largest lakes in Italy"),
    (
        "direction",
        "trips between Rome and Bari then from Lecce to Pisa",
        "trips from Rome to Bari then from Pisa to Lecce",
    ),
    (
        "direction",
        "trains between Rome and Milan, and can Italy beat Spain",
        "trains from Rome to Milan, and can Spain beat Italy",
    ),
    ("swaps", "the 3 best phones", "the 5 best phones"),
    ("swaps", "is it open on Monday", "is it open on Tuesday"),
    ("swaps", "find all *.py files", "find all *.js files"),
    ("swaps", "is Lisbon worth a visit", "is Porto worth a visit"),
    ("numbers", "files larger than 10 MB", "files larger than 20 MB"),
    ("numbers", "how far is 3.5 miles", "how far is 35 miles"),
    ("numbers", "split it among four friends", "split it among six friends"),
    ("numbers", "dating in your forties", "dating in your fifties"),
    ("numbers", "upgrade from version 3.2.1", "upgrade from version 3.2.5"),
    ("numbers", "phones under 20k", "phones under 30,000"),
    ("numbers", "who won the cup in 1998", "who won the cup"),
    ("numbers", "the iPhone 6s battery", "the iPhone 7 battery"),
    ("numbers", "a summary of chapter XIX", "a summary of chapter XVIII"),
    ("numbers", "rooms for 2 nights", "rooms for one night"),
    ("numbers", "changed in the last 2 days", "changed in the last 2 hours"),
    ("numbers", "a laptop under $800", "a laptop under £800"),
    ("numbers", "wake me at 7 am", "wake me at 7 pm"),
    ("numbers", "run 5 miles a week", "run 5 km a week"),
    ("numbers", "papers published in 2002", "papers published before 2002"),
    ("numbers", "trains at 1700", "trains after 1700"),
    ("quantities", "4 cats, 4 dogs: how many", "4 cats: how many"),
    ("quantities", "two pens at $2", "two pens"),
    ("negation", "why should I sell", "why shouldn't I sell"),
    ("dates", "is it open on Monday", "is it open on Tuesday"),
    ("dates", "weather on 3 March", "weather on 3 April"),
    ("dates", "will it rain tomorrow", "will it rain"),
    ("dates", "events next week", "events this week"),
    ("negation", "files that are owned by root", "files that are not owned by root"),
    ("negation", "courses that meet on weekdays", "courses that don't meet on weekdays"),
    ("negation", "how do I enable dark mode", "how do I disable dark mode"),
    ("negation", "sort ascending by price", "sort descending by price"),
    ("negation", "the highest mountain in Asia", "the lowest mountain in Asia"),
    ("negation", "how to gain weight", "how to lose weight"),
    ("negation", "meetings before noon", "meetings after noon"),
    ("identifiers", "find all *.py files", "find all *.js files"),
    ("identifiers", 'rename "alpha" to x', 'rename "beta" to x'),
    ("identifiers", "list what is in /etc/ssl", "list what is in /var/log"),
    ("identifiers", "what does ls -a do", "what does ls -l do"),
    ("identifiers", "reverse a list in Python", "reverse a list in JavaScript"),
    ("identifiers", "reverse a list in python", "reverse a list"),
    ("identifiers", "what is max_connections for", "what is shared_buffers for"),
    ("entities", "is Lisbon worth a visit", "is Porto worth a visit"),
    ("entities", "hotels in berlin", "hotels in munich"),
    ("entities", "shares of IBM today", "shares of SAP today"),
    ("entities", "the weather in Portland, Maine", "the weather in Portland, Oregon"),
    ("entities", "is the CEO of Siemens elected", "is the CEO elected"),
    ("wording", "my order is late", "my refund is late"),
    ("wording", "how to bake bread", "how to slice bread"),
    ("question", "why do cats purr", "when do cats purr"),
    ("question", "how long is the flight", "how much is the flight"),
    ("question", "how many courses are offered", "which courses are offered"),
    ("conditions", "flights to Rome", "cheapest flights to Rome"),
    ("conditions", "rooms with a bath", "rooms except those with a bath"),
    ("direction", "trains from Lyon to Paris", "trains from Paris to Lyon"),
    ("direction", "convert euros to dollars", "convert dollars to euros"),
    ("direction", "convert a string to a list", "convert a list to a string"),
    ("direction", "from my savings to my current account", "from my current to my savings account"),
    ("direction", "can I sue my landlord", "can my landlord sue me"),
    ("direction", "who killed Hector", "who did Hector kill"),
    ("direction", "Ada gives Bob 3 apples", "Bob gives Ada 3 apples"),
    ("direction", "does my employer owe me notice", "do I owe my employer notice"),
    ("direction", "which employees have no manager", "which managers have no employee"),
    ("negation", "the dose for adults", "the dose for children"),
    ("negation", "the women's final", "the men's final"),
    ("negation", "when was Ada born", "when did Ada die"),
    ("negation", "can I be evicted with notice", "can I be evicted without notice"),
    ("negation", "should I always stretch", "should I never stretch"),
    ("negation", "a formal letter", "an informal letter"),
    ("negation", "activating the card", "deactivating the card"),
    ("negation", "upgrade the cluster", "downgrade the cluster"),
    ("negation", "what is hyperthyroidism", "what is hypothyroidism"),
    ("negation", "is it a useful habit", "is it a useless habit"),
    ("negation", "can the lessor cancel", "can the lessee cancel"),
    ("negation", "which medals are not gold", "which medals are silver"),
    ("negation", "tulips that are not red", "tulips that are yellow"),
    ("negation", "does the hotel not serve lunch", "does the hotel serve dinner"),
    ("negation", "passes that do not last a week", "passes that last a month"),
    ("negation", "rows that were not created today", "rows that were updated today"),
    ("negation", "plans that are not billed monthly", "plans that are billed yearly"),
    ("negation", "is the road north of Lyon not closed", "is the road south of Lyon closed"),
    ("negation", "accepting the offer", "declining the offer"),
    ("negation", "an even number", "an odd number"),
    ("negation", "the first man on the moon", "the second man on the moon"),
    ("numbers", "when did World War I end", "when did World War II end"),
    ("numbers", "when did world war 1 end", "when did World War II end"),
    ("numbers", "what is 15% of 80", "what is 80% of 15"),
    ("numbers", "solve 2x + 3 = 7", "solve 2x - 3 = 7"),
    ("dates", "rain this weekend", "rain next weekend"),
    ("direction", "do you deliver to Malta", "do you deliver from Malta"),
    ("question", "how many minutes is a flight", "how many hours is a flight"),
    ("question", "the distance in miles", "the distance in kilometres"),
    ("negation", "members not under 30", "members under 30"),
    ("negation", "are these units the same", "are these units different"),
    ("question", "list the papers by Knuth", "list the number of papers by Knuth"),
    ("question", "what is the highest peak in Peru", "how high is the highest peak in Peru"),
    ("conditions", "users followed by Ann and Bob", "users followed by Bob or Ann"),
    ("conditions", "list the cities", "list the cities in alphabetical order"),
    ("conditions", "show all trains", "show all trains ordered by time"),
    ("question", "return the number of users", "return the users"),
    ("question", "how high is the highest peak", "what is the highest peak"),
    ("negation", "at least 5 days", "at most 5 days"),
    ("negation", "more than 5 items", "at least 5 items"),
    ("negation", "turn on dark mode on my phone", "turn off dark mode on my phone"),
    ("negation", "interest per month", "interest per year"),
    ("question", "what is 15% of 80", "15 is what percent of 80"),
    ("direction", "what preys on lions", "what do lions prey on"),
    ("direction", "does Ada work for Bob", "does Bob work for Ada"),
    ("direction", "is it hotter in Rome than in Athens", "is it hotter in Athens than in Rome"),
    ("direction", "does Ada have to pay Bob to leave", "does Bob have to pay Ada to leave"),
    ("direction", "turn a list of names to a list of ages", "turn a list of ages to a list of names"),
    ("direction", "a visa for Peru with a Cuban pass", "a visa for a Cuban with a Peru pass"),
    ("direction", "was Ada taught by Bob", "did Ada teach Bob"),
    ("direction", "members chosen by members", "members who choose members"),
    ("negation", "fined for not wearing a helmet", "fined for wearing a helmet"),
    ("negation", "trains that no longer run", "trains that run"),
    ("negation", "why not use a lock", "why use a lock"),
    ("negation", "a credit card no annual fee", "a credit card annual fee"),
    ("negation", "clinics with no wait", "clinics with a wait"),
    ("negation", "is it bad to smoke", "is it bad not to smoke"),
    ("negation", "users with no problems", "users with problems"),
    ("negation", "is it a member of the UN", "why is it not a member of the UN"),
    ("numbers", "users with more than 3 orders", "users with 3 orders"),
    ("numbers", "users with more than 3 orders", "users with at least 3 orders"),
    ("numbers", "what is x² for x = 7", "what is x³ for x = 7"),
    ("numbers", "convert -40 degrees", "convert 40 degrees"),
    ("numbers", "航班3月5日", "航班3月6日"),
    ("negation", "kann ich kündigen", "kann ich nicht kündigen"),
    ("question", "when was version 3.8 released?", "why was version 3.8 released?"),
    ("question", "when did Dr. King speak?", "where did Dr. King speak?"),
    ("question", "what is the population of Peru", "what is the size of Peru"),
    ("question", "how old is the bridge", "what is the length of the bridge"),
    ("conditions", "the largest building", "the tallest building"),
    ("conditions", "the shortest river", "the smallest river"),
    ("conditions", "the major cities of Oregon", "the cities of Oregon"),
    ("conditions", "the latest flight", "the first flight"),
    ("identifiers", "empty folders under the home directory", "empty folders under this directory"),
    ("direction", "flights between Denver and Boston", "flights from Boston to Denver"),
    ("direction", "a bus between San Remo and Nice", "a bus from Nice to San Remo"),
    ("question", "where is the Taj Mahal", "what is the Taj Mahal"),
    ("question", "where can I get a visa", "when can I get a visa"),
]

SAME = [
    ("negation", "make money without a job", "make money without finding a job"),
    ("negation", "a visit without any kind of booking", "a visit without booking"),
    ("numbers", "files changed 50 days back", "files changed exactly 50 days ago"),
    ("numbers", "what happened within 2 days", "what happened less than 2 days ago"),
    ("identifiers", "a covid-19 test", "a covid 19 test"),
    ("conditions", "the shops sorted descending by size", "the shops in descending order of size"),
    ("conditions", "a train that arrives by noon", "a train arriving by noon"),
    ("direction", "is it far from here to my house", "is it far from here to the house"),
    ("direction", "does the inn allow pets", "are pets allowed at the inn"),
    ("direction", "where does Docker store images", "where are Docker images stored"),
    ("direction", "what did Apple announce at its event", "what was announced at Apple's event"),
    ("direction", "how many rooms has each hotel", "for each hotel, how many rooms are there"),
    ("question", "who is the oldest pupil", "find the oldest pupil"),
    ("question", "when is the first order", "what is the date of the first order"),
    ("dates", "Good morning, is my parcel there", "is my parcel there"),
    ("identifiers", "read a csv into pandas", "read a csv into pandas in python"),
    ("entities", "deals of the second quarter", "deals of Q2"),
    ("conditions", "the top customer by sales", "the customer with the largest sales"),
    ("wording", "the signs of measles", "the symptoms of measles"),
    ("conditions", "list all types of forms", "what are the different types of forms"),
    ("conditions", "reverse the list", "print the list in reverse order"),
    ("conditions", "oats instead of rice", "an alternative to rice: oats"),
    ("conditions", "find a folder called x", "find all folders called x"),
    ("identifiers", "how many 3 -credit classes are there", "how many classes have 3 credits"),
    ("direction", "can I break my lease", "can my lease be broken"),
    ("conditions", "how do I check if a pipe is shut", "bash check pipe shut"),
    ("conditions", "show hidden files", "show invisible files"),
    ("conditions", "sort a list of trees by height", "order the list of the old trees by height"),
    ("question", "how many days are in a leap year", "the number of days in a leap year"),
    ("question", "how many sick days do I get", "how many days of sick leave do I get"),
    ("question", "how long until the fair", "how many days until the fair"),
    ("numbers", "a fee of 2.50 dollars", "a fee of 2.5 dollars"),
    ("identifiers", "explain TCP/IP", "explain tcp ip"),
    ("identifiers", "is it open 24/7", "is it open 24 7"),
    ("conditions", "the mean depth of the lakes", "the average depth of the lakes"),
    ("numbers", "founded before 2003", "whose founding precedes 2003"),
    ("question", "what is the birth year of Ada", "in what year was Ada born"),
    ("identifiers", "list /etc.", "list /etc"),
    ("direction", "how do we succeed together", "how did we succeed together"),
    ("conditions", "how do I know if it is ripe", "what are the signs that it is ripe"),
    ("conditions", "the lowest fare to Bari", "the cheapest fare to Bari"),
    ("conditions", "who sold the most cars", "who had the highest number of cars sold"),
    ("conditions", "films directed by Varda", "films that Varda made as the direct author"),
    ("question", "why does it leak", "what could be the reason that it leaks"),
    ("question", "how long is the drive", "how many hours is the drive"),
    ("question", "when will it stop", "how long until it stops"),
    ("question", "when is it dry there", "what months is it dry there"),
    (
        "question",
        "find a kite with sides of 3 and whose tail is 5",
        "find a kite with sides of 3 and a tail of 5",
    ),
    ("numbers", "leave on May 27th", "leave on May twenty seventh"),
    ("numbers", "3.5 hours", "3 and a half hours"),
    ("numbers", "a plot of 12 m by 7 m", "a plot of 12 metres by 7 metres"),
    ("numbers", "Ida is 9", "Ida is 9 years old"),
    ("direction", "the pros and cons of gas", "the cons and pros of gas"),
    ("exchange", "how do I purchase a car", "how do I buy a car"),
    ("exchange", "how do I lease a big tent", "how do I hire a large tent"),
    ("exchange", "sum up the plot", "sum up this plot"),
    ("additions", "rain and hail in Oslo", "rain and sleet in Oslo"),
    ("additions", "flights and fares to Malta", "fares and flights to Malta"),
    ("additions", "rain and wind in Oslo", "wind in Oslo, and is there rain"),
    ("identifiers", "how do I do it", "how do u do it"),
    ("identifiers", "the size of dir1", "the size of a folder"),
    (
        "question",
        "Ada has 9 figs. She eats 3. How many figs are left?",
        "Ada has 9 figs and eats 3. How many figs remain?",
    ),
    ("question", "I lost my key. What should I do?", "I lost my key. What do I do now?"),
    ("conditions", "list the different authors", "list the distinct authors"),
    ("conditions", "the average age per class", "the average age for each class"),
    ("conditions", "earn money online", "earn money on the internet"),
    ("negation", "the first and last name of Ada", "the full name of Ada"),
    ("negation", "files and directories modified today", "directories and files modified today"),
    ("wording", "files that were modified", "files that somebody changed"),
    ("identifiers", "what is nasa?", "What is NASA?"),
    ("identifiers", "HOW DO I SORT A LIST?", "How do I sort a list?"),
    ("identifiers", "the weather in Fresno, Ca", "The weather in Fresno, CA"),
    ("identifiers", "Is C++ hard?", "Is c++ hard?"),
    ("identifiers", "A laptop under 50k", "A laptop under 50K"),
    ("identifiers", "How many mb are in a gb?", "How many MB are in a GB?"),
    ("identifiers", "What's in 'posns'?", "What's in 'posns '?"),
    ("identifiers", "one\ntwo", "one two"),
    ("numbers", "Barnes & Noble - opening hours", "opening hours of Barnes & Noble"),
    ("numbers", "a t-shirt and an x-ray", "a tshirt + an xray"),
    ("numbers", "the V&A in London", "the V&A, London"),
    ("negation", "I can't figure out how to reset it. How do I do that?", "how do I reset it"),
    ("negation", "can nicotine patches stop me smoking", "do patches help me to stop smoking"),
    ("negation", "how do I stop my dog barking", "my dog is barking, how do I make it stop"),
    ("conditions", "how do I start a budget", "how do I start budgeting"),
    ("numbers", "sales in fiscal year 2023", "sales in FY 2023"),
    ("identifiers", "sort a list in JavaScript", "sort a list in js"),
    ("question", "who won the cup", "which team won the cup"),
    ("question", "when was the king crowned", "what was the date of the king's coronation"),
    ("question", "what was the revenue of Acme", "how much revenue did Acme make"),
    ("question", "convert 5 miles to kilometers", "how many kilometers are 5 miles"),
    ("question", "who is the best singer", "who was the best singer"),
    ("direction", "compare 2022 and 2023 revenue", "compare 2023 and 2022 revenue"),
    ("negation", "how do I stop smoking", "how do I quit smoking"),
    ("negation", "Can I make cookies with butter?", "Can I use butter in cookies?"),
    ("question", "What is Labor Day?", "What does Labor Day mean?"),
    ("identifiers", "install Node JS on Ubuntu", "install Node.js on Ubuntu"),
    ("identifiers", "What is vitamin d good for?", "What is vitamin D good for?"),
    ("identifiers", 'who sang "Bohemian Rhapsody"', 'who sang "bohemian rhapsody"'),
    ("identifiers", "the pH of milk", "the PH of milk"),
    ("language", "Las Vegas hotels", "hotels in Las Vegas"),
    ("language", "mortgage refinance calculator", "mortgage refinancing calculator"),
    ("language", "¿Cómo puedo abrir una cuenta?", "cómo puedo ABRIR una cuenta …"),
    ("language", "怎么戒烟？", "怎么 戒烟"),
    ("language", "Thanks! How do I unlock my card? 🙏", "How do I unlock my card?"),
    ("language", "lisinopril side effects", "What are the side effects of lisinopril?"),
    ("language", "ferry terminals Oslo", "Oslo ferry terminals"),
    ("language", "the crème brûlée of Lyon", "a crème brûlée from Lyon"),
    ("language", "Who sang La La Land's opening song?", "Who sings the opening song of La La Land?"),
    ("numbers", "when did the Second World War end", "when did World War 2 end"),
    ("swaps", "the best phones", "the 5 best phones"),
    ("swaps", "who is the mayor", "who is the mayor of Lisbon"),
    ("numbers", "1,000 people", "1000 people"),
    ("numbers", "two apples", "2 apples"),
    ("numbers", "the last 24 hours", "the last day"),
    ("numbers", "one day ago", "a day ago"),
    ("numbers", "more than 5MB", "more than 5 MB"),
    ("numbers", "1.5 lakh", "150000"),
    ("numbers", "the 3rd of May", "May 3"),
    ("numbers", "$20", "20 dollars"),
    ("numbers", "is covid-19 over", "is covid over"),
    ("numbers", "$20 a month", "20 a month"),
    ("numbers", "5 kilometres", "5 km"),
    ("numbers", "papers after 2002", "papers since 2002"),
    ("numbers", "the population in 2002", "the 2002 population"),
    ("quantities", "4 cats and four dogs", "four cats and 4 dogs"),
    ("quantities", "each one weighs 4 kg", "each weighs 4 kg"),
    ("dates", "Sept 5th", "5 September"),
    ("dates", "what is the weather", "what is the weather today"),
    ("dates", "can it fall down", "it may break down"),
    ("negation", "my card is not working", "my card is broken"),
    ("negation", "I can't log in", "I am unable to log in"),
    ("negation", "don't you think it is cold", "do you think it is cold"),
    ("identifiers", "all *.mp3 files", "all files with the extension 'mp3'"),
    ("identifiers", "files under /tmp/", "files below '/tmp'"),
    ("entities", "the president of the United States", "the president of the USA"),
    ("entities", "weather in Sydney, Australia", "weather in Sydney"),
    ("entities", "hotels in Stockholm", "hotels in Stokholm"),
    ("entities", "the Bank of England", "the bank of england"),
    ("entities", "How Do I File Taxes Late", "How do I file taxes late"),
    ("wording", "how do I purchase a car", "how to buy an automobile"),
    ("wording", "predicting prices", "price prediction"),
    ("wording", "cancel the order", "please cancel my order now"),
    ("question", "why is the sky blue", "what is the reason the sky is blue"),
    ("question", "how many users are there", "what is the number of users"),
    ("question", "how many users are there", "give me the total number of users"),
    ("question", "how tall is the tower", "what is the height of the tower"),
    ("question", "how big of a risk is it", "what risk is it"),
    ("conditions", "the largest city", "the biggest city"),
    ("conditions", "the choice between Ann and Bob", "the choice: Ann or Bob"),
    ("conditions", "all trains sorted by time", "all trains in order of time"),
    ("direction", "from Lyon to Paris", "to Paris from Lyon"),
    ("direction", "in Python, how do I reverse a list", "how do I reverse a list in Python"),
    ("direction", "how can I sue my landlord", "how do I sue my landlord"),
    ("direction", "does it go through a court", "does it have to go through a court"),
    ("negation", "a trip without a guide", "a trip with no guide"),
    ("negation", "do not enable logging", "disable logging"),
    ("negation", "is it illegal", "is it not legal"),
    ("negation", "synchronise it", "synchronising it"),
    ("numbers", "when did World War II end", "when did WW2 end"),
    ("numbers", "the class I take", "the class that I take"),
    ("numbers", "x^2 + 3", "x^2+3"),
    ("numbers", "ages 10-12", "ages 10 to 12"),
    ("dates", "courses next winter", "courses in winter"),
    ("question", "how many minutes does it take", "how many minutes is it"),
    ("question", "how much does he earn", "what is his salary"),
    ("question", "return the number of users", "how many users are there"),
    ("question", "which is better? and why?", "which is better"),
    ("question", "who teaches it", "what teacher teaches it"),
    ("question", "what causes rain", "what is the cause of rain"),
    ("negation", "turn on logging", "enable logging"),
    ("dates", "the speech of yesterday", "yesterday's speech"),
    ("question", "in which year did it begin", "when did it begin"),
    ("direction", "a laptop for gaming", "a gaming laptop"),
    ("direction", "the status of my order", "my order status"),
    ("direction", "find all files in the folder with links", "find all files with links in the folder"),
    ("direction", "how to verify my phone", "how do I verify the phone"),
    ("direction", "the difference between cats and dogs", "the difference between dogs and cats"),
    ("negation", "where did, no sorry, when did it start", "when did it start"),
    ("negation", "the least expensive hotel", "the cheapest hotel"),
    ("negation", "for at least 5 days", "for 5 or more days"),
    ("conditions", "the easiest course", "which course can be passed most easily"),
    ("conditions", "what does CSS mean", "what is CSS"),
    ("direction", "is money moved to Ada from Bob", "is money moved from Bob to Ada"),
    ("negation", "my payment did not go through", "my payment failed"),
    ("negation", "whether or not it rains", "whether it rains"),
    ("negation", "my order no is 7", "my order number is 7"),
    ("numbers", "orders over 30", "orders of more than 30"),
    ("question", "what is the total distance", "how far is it"),
    ("conditions", "the latest train", "the last train"),
    ("conditions", "the earliest bus", "the first bus"),
    ("conditions", "which state has the most counties", "which state has the largest number of counties"),
    ("conditions", "which team has the least points", "which team has the lowest number of points"),
    ("identifiers", "all files in my home directory", "all files in the home folder"),
    ("identifiers", "all files below /home", "all files below the home directory"),
    ("direction", "flights between Denver and Boston", "flights from Denver to Boston"),
    ("direction", "the distance between Denver and Boston", "how far is it from Boston to Denver"),
    ("question", "where can I find my invoices", "how can I find my invoices"),
    ("question", "where is a good restaurant", "give me a good restaurant"),
    ("question", "in which directory are the logs", "where are the logs"),
    ("question", "is there somewhere to rent skis", "where can I rent skis"),
]


@pytest.mark.parametrize(("name", "asked", "stored"), DIFFERENT)
def test_objects_both_ways(name: str, asked: str, stored: str) -> None:
    for one, other in ((asked, stored), (stored, asked)):
        found = objection([name], one, other)
        assert found is not None
        assert found.startswith(f"{name}: ")


@pytest.mark.parametrize(("name", "asked", "stored"), SAME)
def test_lets_pass_both_ways(name: str, asked: str, stored: str) -> None:
    assert objection([name], asked, stored) is None
    assert objection([name], stored, asked) is None


def test_every_guard_has_examples_of_both_kinds() -> None:
    assert {name for name, *_ in DIFFERENT} == set(GUARDS)
    assert {name for name, *_ in SAME} >= set(GUARDS)


def test_names_the_first_guard_in_the_order_given() -> None:
    asked, stored = "3 nights in Rome", "4 nights in Oslo"
    assert objection(["numbers", "entities"], asked, stored) == "numbers: 3 / 4"
    assert objection(["entities", "numbers"], asked, stored) == "entities: rome / oslo"
    assert objection([], asked, stored) is None


def test_a_guard_that_raises_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(a: Facts, b: Facts) -> str | None:
        raise ZeroDivisionError

    monkeypatch.setitem(GUARDS, "numbers", broken)
    assert objection(["numbers"], "some text", "other text") == "numbers: ZeroDivisionError"


def test_a_name_that_is_not_a_guard_objects() -> None:
    assert objection(["nonsense"], "some text", "other text") == "nonsense: KeyError"


def test_a_text_that_cannot_be_read_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> Facts:
        raise RecursionError

    monkeypatch.setattr(objections, "facts", broken)
    assert objection(["numbers"], "some text", "other text") == "facts: RecursionError"


@pytest.mark.parametrize(
    "text", ["run " + "a" * 3000 + "_b", 'the "' + "a" * 60 + '_"', '"' + "a " * 35 + '_"']
)
def test_letters_with_a_sign_behind_them_are_read_to_their_end(text: str) -> None:
    """In time that grows with their number and not as a power of two."""
    assert objection(["identifiers"], text, text + " please") is None


def test_a_text_longer_than_any_encoder_reads_objects() -> None:
    assert objection(["numbers"], "a" * (LONGEST + 1), "a") == "facts: ValueError"


@given(st.text(max_size=200))
@example("_0'A")
@example("w'C0 a")
@example("f½ [d <")
def test_nothing_objects_to_the_same_text_in_other_spacing(text: str) -> None:
    assert objection(list(GUARDS), text, text + " ") is None


@given(st.text(max_size=100), st.text(max_size=100))
def test_objections_are_mutual_and_never_errors(one: str, other: str) -> None:
    a, b = facts(one), facts(other)
    for guard in GUARDS.values():
        assert (guard(a, b) is None) == (guard(b, a) is None)


_ASKING = (
    "how|many|long|often|old|far|come|why|when|where|who|is|what|time|the|age|of|count|me|know|and"
    "|reasons for|distance to|?|.|,|'s|zebra"
)


@given(st.lists(st.sampled_from(_ASKING.split("|"))))
def test_what_is_asked_for_is_the_kind_that_begins_first(pieces: list[str]) -> None:
    text = " ".join(pieces)
    found = [(m.start(), kind) for kind, pattern in _KINDS.items() if (m := re.search(pattern, text))]
    assert kind_asked(text) == (min(found)[1] if found else "")


@given(st.text())
@example("x" * (LONGEST + 1))
def test_reading_ahead_never_fails(text: str) -> None:
    read_ahead(text)


@given(
    st.lists(
        st.sampled_from(
            [
                "sign",
                "Sign up",
                "the US",
                "a.txt",
                "file.",
                "e-mail",
                "--all",
                "-r",
                "camelCase",
                "x=1",
                "f()",
                "Covid-19",
                "/etc",
            ]
        )
        | st.text(max_size=4),
        max_size=6,
    ).map(" ".join)
)
def test_what_is_looked_for_first_never_hides_an_alias_or_code(text: str) -> None:
    assert bool(guards_facts._ALIAS.search(text)) <= bool(guards_facts._ALIAS_IN_LOWER.search(text.lower()))
    assert bool(guards_facts._CODE.search(text)) <= bool(guards_facts._CODE_SIGN.search(text))
