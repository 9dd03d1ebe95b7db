"""Closed word classes of English that the guards read: function words, numbers, units, synonyms, places.

General vocabulary only. Words are lower-case; where a guard compares stems, it stems these lists itself.
"""

# ruff: noqa: E501

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _groups(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(line.split()) for line in text.strip().splitlines())


FUNCTION = _words("""
a an the this that these those there here it its it's i i'm i've i'd i'll me my mine myself we our ours us you your yours
yourself u ur he him his she her hers they them their theirs one ones who whom whose which what when where why how whether if
is are am was were be been being do does did doing done have has had having can could will would shall should may might must
ought need needs dare of in on at by for from to into onto with within about as than then so such and or nor but because
since while though although until till upon per via over under between among through during across along around out off up
down against toward towards again also too very just only even still yet already ever really actually basically simply
please pls plz thanks thank hello hi hey ok okay yes well now some any all each every both either another other others
more most much many few several lot lots bit kind sort type way ways thing things something anything everything someone
anyone everyone somebody anybody everybody people person etc e.g i.e vs s t d ll re ve m o'clock oclock whats what's hows
how's who's where's that's there's im ive id dont doesnt didnt isnt arent cant cannot wont no not never none without
except don't doesn't didn't isn't aren't wasn't weren't can't won't wouldn't shouldn't couldn't haven't hasn't hadn't
""")

DETERMINERS = _words("a an the my your our his her its their this that some any")

FRAME = _words("""
show tell give list find get know want like look see check help let wish love wonder wondering display print return
retrieve fetch provide explain describe define mean meaning ask question answer say think believe thought opinion opinions
view views suggest suggestion suggestions recommend recommendation advice tip tips idea ideas possible possibly able
example examples name names info information detail details come go going happen happens good better best great top nice
easy easiest easily simple simplest quick quickly effective efficient proper properly correct correctly right different
difference exactly currently current right now today's make made makes making take takes took taken use used using uses work
works working try trying tried start started someone's would've available include including related regarding concerning
case cases number numbers count amount quantity total identify determine compute calculate output whole entire existing
respective corresponding particular certain specific main major important common popular various based actual real
""")

FOREIGN = _words("""
aber auch auf aus beim da das dass dein deine dem den der des dich dir doch du durch ein eine einem einen einer eines er es euch
gibt habe haben hier ich ihr ihre immer ist jetzt kann kein keine mein meine meinem meinen meiner mich mir mit muss nach nicht
noch nur oder ohne schon sein sich sie sind um und uns unter vom von vor warum wann welche welchen welcher welches wenn wer
werden wie wieder wieviel wir wird wo wurde zu zum zur zwischen
aller au aux avec avoir ces cette chez combien comment dans depuis des doit dois du elle elles entre est et faire fait faut ils
je la le les leur lui mais mes moi mon nos notre nous par pas peut peux plus pourquoi puis quand que quel quelle quelles quels
qu'est qui sans ses sont sous sur toi un une vos votre vous c'est l'on j'ai n'est est-ce puis-je
algo como con cual cuando cuanto cuesta de del desde donde el ella ese esta este esto gracias hacer hasta las lo los mejor mi mis
muy para pero por porque puede puedo quiero ser si sobre soy su sus tengo tiene una uno yo
agli alla alle anche che chi come cosa dal dalla dei della delle dello devo di dove gli ho il io mia mio nel nella non ogni posso
quale quali quando quanti quanto quella quello questa questo sono sul sulla
ao aos até com das dos ela ele em essa esse eu foi isso meu meus minha muito na nas nos onde ou pela pelo posso pra quais qual
sem seu sua tem tenho uma
aan als dat deze dit een geen hebben heeft het hoe hoeveel ik je jij kan maar mijn moet naar niet nog ook op tot uit van veel voor
waar waarom wanneer wat welke wil worden wordt zijn zonder
att av blir denna det detta din ditt efter ej eller en ett har hur hva hvad hvem hvor hvordan hvorfor ikke inte jag jeg med mellan
mig mitt mycket nu og och skal som till upp ut vad vem vilka vilken
aby ale bez co czy dla dlaczego gdzie jak jaka jaki jakie jest jestem kiedy kto mam mnie moje nie oraz przez te ten
ako jsem jsou kde kdo kdy mezi nebo jsme proto se si za
bir bu daha gibi hangi ile kim nas neden nerede nedir ve veya yok
ada adalah akan apa apakah atau bagaimana banyak berapa bisa cara dan dari dengan ini itu jika karena ke kenapa mana mengapa oleh
pada saya sebagai siapa tidak untuk yang
acest ca care ce cum este fi mea meu pe pentru poate sau sunt unde
egy hogy hogyan hol kell lehet milyen mit mikor van vagy
ei ja joka jos kanssa kuin kuinka miksi minun miten mutta niin ole olen oli ovat tai
hindi ang ng sa ako ko mo paano bakit ano
""")
"""The commonest function words of languages in Latin letters; those with other letters than ASCII's tell by these."""

NUMBER_WORDS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
    "twenties": 20, "thirties": 30, "forties": 40, "fifties": 50, "sixties": 60, "seventies": 70, "eighties": 80,
    "nineties": 90,
    "once": 1, "twice": 2, "doubled": 2, "thrice": 3, "triple": 3, "tripled": 3, "dozen": 12, "dozens": 12,
    "quarter": 4, "quarters": 4, "half": 2, "halves": 2,
    "third": 3, "thirds": 3, "fourth": 4, "fourths": 4, "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6,
    "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13,
    "fourteenth": 14, "fifteenth": 15, "sixteenth": 16, "seventeenth": 17, "eighteenth": 18, "nineteenth": 19,
    "twentieth": 20, "thirtieth": 30,
}  # fmt: skip

SCALES = {
    "hundred": 100, "hundreds": 100, "thousand": 1000, "thousands": 1000, "k": 1000, "lakh": 100_000, "lakhs": 100_000,
    "lac": 100_000, "lacs": 100_000, "million": 10**6, "millions": 10**6, "mn": 10**6, "crore": 10**7,
    "crores": 10**7, "cr": 10**7, "billion": 10**9, "billions": 10**9, "bn": 10**9, "trillion": 10**12,
}  # fmt: skip

UNITS: dict[str, tuple[str, int]] = {
    word: (unit, factor)
    for unit, factor, words in (
        ("s", 1, "second seconds sec secs"),
        ("s", 60, "minute minutes min mins"),
        ("s", 3600, "hour hours hr hrs h"),
        ("s", 86400, "day days"),
        ("s", 604800, "week weeks wk wks"),
        ("month", 1, "month months"),
        ("month", 12, "year years yr yrs"),
        ("yo", 1, "yo"),
        ("byte", 1, "byte bytes b"),
        ("byte", 10**3, "kb kilobyte kilobytes kib"),
        ("byte", 10**6, "mb megabyte megabytes mib m"),
        ("byte", 10**9, "gb gigabyte gigabytes gib g"),
        ("byte", 10**12, "tb terabyte terabytes tib"),
        ("usd", 1, "$ dollar dollars usd bucks"),
        ("eur", 1, "€ euro euros eur"),
        ("gbp", 1, "£ gbp"),
        ("inr", 1, "₹ rs rupee rupees inr"),
        ("jpy", 1, "¥ yen jpy"),
        ("cent", 1, "cent cents ¢"),
        ("%", 1, "% percent percentage pct"),
        ("am", 1, "am a.m"),
        ("pm", 1, "pm p.m"),
        ("mile", 1, "mile miles mi"),
        ("km", 1, "km kms kilometer kilometers kilometre kilometres"),
        ("metre", 1, "meter meters metre metres"),
        ("cm", 1, "cm cms centimeter centimeters centimetre centimetres"),
        ("mm", 1, "mm millimeter millimeters"),
        ("foot", 1, "foot feet ft"),
        ("inch", 1, "inch inches"),
        ("yard", 1, "yard yards"),
        ("kg", 1, "kg kgs kilo kilos kilogram kilograms"),
        ("gram", 1, "gram grams"),
        ("mg", 1, "mg milligram milligrams"),
        ("pound", 1, "pound pounds lb lbs"),
        ("ounce", 1, "ounce ounces oz"),
        ("litre", 1, "liter liters litre litres"),
        ("ml", 1, "ml milliliter milliliters"),
        ("gallon", 1, "gallon gallons"),
        ("celsius", 1, "celsius °c"),
        ("fahrenheit", 1, "fahrenheit °f"),
    )
    for word in words.split()
}

MONTHS = {
    word: month
    for month, words in enumerate(
        (
            "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
            "september sept sep", "october oct", "november nov", "december dec",
        ),
        start=1,
    )
    for word in words.split()
}  # fmt: skip
AMBIGUOUS_MONTHS = _words("may march mar sep jun jan dec")

DAYS = {
    word: day
    for day, words in (
        ("monday", "monday mondays mon"), ("tuesday", "tuesday tuesdays tues tue"),
        ("wednesday", "wednesday wednesdays wed"), ("thursday", "thursday thursdays thurs thu"),
        ("friday", "friday fridays fri"), ("saturday", "saturday saturdays"), ("sunday", "sunday sundays"),
        ("today", "today"), ("tomorrow", "tomorrow tmrw"), ("yesterday", "yesterday"), ("tonight", "tonight"),
        ("weekend", "weekend weekends"), ("weekday", "weekday weekdays"),
        ("morning", "morning mornings"), ("noon", "noon midday"), ("afternoon", "afternoon afternoons"),
        ("evening", "evening evenings"), ("midnight", "midnight"),
        ("spring", "spring"), ("summer", "summer"), ("autumn", "autumn fall"), ("winter", "winter"),
        ("christmas", "christmas xmas"), ("easter", "easter"), ("thanksgiving", "thanksgiving"), ("halloween", "halloween"),
        ("nextweek", "nextweek"), ("nextmonth", "nextmonth"), ("nextyear", "nextyear"), ("thisweek", "thisweek"),
        ("thismonth", "thismonth"), ("thisyear", "thisyear"), ("lastweek", "lastweek"), ("lastmonth", "lastmonth"),
        ("lastyear", "lastyear"), ("lastnight", "lastnight"),
    )
    for word in words.split()
}  # fmt: skip

# One line is one family of words that say the same; the first stands for all.
SYNONYMS = _groups("""
buy purchase acquire
earn make
money cash
movie film
car auto automobile vehicle
phone mobile cellphone cell smartphone
picture photo image pic
folder directory
delete remove erase eliminate
create generate build built produce
begin start commence
end finish
fix repair solve resolve
quick fast rapid
doctor physician
sickness illness disease
medicine medication drug
kid child children
woman female women lady
man male men guy
big large huge
small little tiny
happy glad
sad unhappy
begin start
job career employment work
company firm business enterprise
student pupil
teacher professor instructor lecturer faculty
class course lesson
teach instruct
city town
country nation
flight fly plane airplane
fare airfare ticket
depart leave
price cost charge fee rate
weather forecast
alone solo
marriage marry married
virus viral
bacteria bacterial
ship vessel
employee staff worker
shop store
author writer
result outcome
journalist reporter
device equipment
pilot aviator
participant contestant
founder establisher
zip postal
airport aerodrome
battle combat
temperature temp
lessen reduce lower decrease
increase raise grow
improve enhance better
learn study
live reside living
location place
site website webpage
app application
email mail e-mail gmail
picture photograph
salary pay wage income
invest investment
start begin
error bug issue problem trouble
change modify alter update edit
search look seek
choose select pick
contact reach
customer client
surname lastname
average avg
maximum max highest largest biggest greatest
minimum min lowest smallest
oldest earliest first
newest latest recent last
display show
size length
vacation holiday trip
hotel accommodation
attraction sight
college university
girl woman
boy man
stop quit prevent avoid
covid coronavirus corona covid-19 covid19 sars-cov-2
vaccine vaccination
infect infection contract catch
demonetization demonetisation
note banknote
lawyer attorney
law legislation
agreement contract
get obtain receive
hack crack
recover restore retrieve
verify confirm validate
stock share
value worth
hard tough difficult
hardest toughest
cheap inexpensive
effect affect
password passcode pin
account profile
send transfer
china chinese
france french
germany german
italy italian
spain spanish
russia russian
india indian
japan japanese
korea korean
britain british
england english
usa american
canada canadian
mexico mexican
brazil brazilian
australia australian
pakistan pakistani
iran iranian
iraq iraqi
syria syrian
israel israeli
turkey turkish
greece greek
portugal portuguese
sweden swedish
norway norwegian
denmark danish
finland finnish
poland polish
ireland irish
scotland scottish
europe european
asia asian
africa african
booking reservation
symptom sign
verbal oral
luggage baggage
downtown centre center
""")

IRREGULAR = _groups("""
begin began begun
blow blew blown
break broke broken
bring brought
buy bought
catch caught
choose chose chosen
draw drew drawn
drink drank
drive drove driven
eat ate eaten
fall fell fallen
feel felt
fight fought
forget forgot forgotten
forgive forgave forgiven
freeze froze frozen
give gave given
grow grew grown
hear heard
hold held
keep kept
know knew known
lead led
lend lent
lose lost
meet met
ride rode ridden
run ran
say said
sell sold
send sent
shoot shot
sing sang sung
sink sank sunk
sleep slept
speak spoke
speak spoke spoken
spend spent
steal stole stolen
swim swam swum
teach taught
tear tore torn
tell told
throw threw thrown
understand understood
wake woke woken
wear wore worn
win won
write wrote written
""")
"""Verbs and their past forms; regular ones share a stem."""

NEGATORS = _words(
    "not never no without nor neither none nothing nobody nowhere cannot cant dont doesnt didnt isnt arent wont wasnt "
    "havent hasnt shouldnt couldnt wouldnt non nicht kein keine keinen keiner niet geen pas ikke inte nunca jamais senza"
)
SOFT_NEGATORS = _words("""
unable fail fails failed failing failure impossible stop stopped avoid prevent refuse refused lack lacks lacking less lose lost
losing forgot forget forgotten miss missing pending decline declined denied empty hide hidden wrong except only instead
rather but excluding exclude excludes outside other remain remaining left free minus stuck broken reject rejected until
unless hardly barely few little yet hate dislike against worse bad zero absent besides ban bans banned stopping problem problems
issue issues error errors trouble difficulty remove removes removed removing strip least
""")

COUNTRIES = _words("""
afghanistan albania algeria angola argentina armenia australia austria azerbaijan bahrain bangladesh belarus belgium bhutan
bolivia botswana brazil britain bulgaria cambodia cameroon canada chile china colombia croatia cuba cyprus czechia denmark
ecuador egypt england estonia ethiopia finland france georgia germany ghana greece guatemala haiti honduras hungary iceland
india indonesia iran iraq ireland israel italy jamaica japan jordan kazakhstan kenya kuwait laos latvia lebanon libya
lithuania luxembourg malaysia maldives mali malta mauritius mexico moldova mongolia morocco mozambique myanmar namibia nepal
netherlands nicaragua niger nigeria norway oman pakistan palestine panama paraguay peru philippines poland portugal qatar
romania russia rwanda scotland senegal serbia singapore slovakia slovenia somalia spain sudan sweden switzerland syria taiwan
tajikistan tanzania thailand tunisia turkey uganda ukraine uruguay usa uk uae uzbekistan venezuela vietnam wales yemen zambia
zimbabwe europe asia africa antarctica
""")
STATES = _words("""
alabama alaska arizona arkansas california colorado connecticut delaware florida hawaii idaho illinois indiana iowa kansas
kentucky louisiana maine maryland massachusetts michigan minnesota mississippi missouri montana nebraska nevada ohio oklahoma
oregon pennsylvania tennessee texas utah vermont virginia wisconsin wyoming
""")
CITIES = _words("""
london paris berlin madrid rome vienna moscow tokyo beijing shanghai delhi mumbai bangalore chennai kolkata hyderabad pune sydney
melbourne toronto vancouver montreal chicago boston seattle denver dallas houston atlanta phoenix philadelphia baltimore
pittsburgh detroit cleveland miami orlando austin portland oakland milwaukee charlotte nashville memphis dubai istanbul cairo
lagos nairobi dublin amsterdam brussels zurich geneva barcelona milan munich hamburg lisbon athens warsaw prague budapest
stockholm oslo copenhagen helsinki seoul bangkok jakarta manila singapore karachi lahore dhaka kathmandu
""")
LANGUAGES = _words("""
english spanish french german italian portuguese russian chinese mandarin cantonese japanese korean arabic hindi urdu bengali tamil
telugu turkish persian hebrew greek latin dutch swedish norwegian danish finnish polish czech hungarian thai vietnamese
indonesian swahili indian american british canadian australian european asian african mexican brazilian pakistani irish
scottish israeli iranian iraqi syrian
""")
PLACES = COUNTRIES | STATES | CITIES | LANGUAGES
REGIONS = COUNTRIES | STATES
"""Places that often stand behind a city only to say which one."""

ALIASES = {
    "united states of america": "USA", "united states": "USA", "u.s.a.": "USA", "u.s.a": "USA", "u.s.": "USA", "u.s": "USA",
    "america": "USA", "united kingdom": "UK", "u.k.": "UK", "u.k": "UK", "great britain": "UK",
    "united arab emirates": "UAE", "new york city": "New York", "nyc": "New York", "san fran": "San Francisco",
    "next week": "nextweek", "next month": "nextmonth", "next year": "nextyear", "this week": "thisweek",
    "this month": "thismonth", "this year": "thisyear", "last week": "lastweek", "last month": "lastmonth",
    "last year": "lastyear", "round trip": "roundtrip", "round-trip": "roundtrip", "one way": "oneway",
    "one-way": "oneway", "non-stop": "nonstop", "non stop": "nonstop", "o'clock": "", "i.e.": "", "e.g.": "", "per cent": "percent",
    "e-mail": "email", "can not": "cannot", "a.m.": "am", "p.m.": "pm", "a.m": "am", "p.m": "pm",
    "first world war": "world war 1", "second world war": "world war 2", "close to": "near",
    "ww1": "world war 1", "ww2": "world war 2", "wwi": "world war 1", "wwii": "world war 2", "ww3": "world war 3",
    "covid-19": "covid", "covid 19": "covid", "covid19": "covid", "sars-cov-2": "covid", "coronavirus": "covid",
    "corona virus": "covid", "first name": "forename", "first names": "forenames", "given name": "forename",
    "last name": "surname", "last names": "surnames", "family name": "surname", "family names": "surnames",
    "first quarter": "q1", "second quarter": "q2", "third quarter": "q3", "fourth quarter": "q4", "full name": "fullname", "full names": "fullname", "first and last name": "fullname", "first and last names": "fullname",
    "first name and last name": "fullname", "first names and last names": "fullname", "forename and surname": "fullname",
    "forenames and surnames": "fullname", "directory tree": "directory",
    "order by": "sorted", "ordered by": "sorted", "ordering by": "sorted", "sort by": "sorted", "sorting by": "sorted",
    "in order of": "sorted", "in the order of": "sorted",
    "allowed to": "able to", "largest number of": "most", "highest number of": "most", "greatest number of": "most",
    "lowest number of": "least", "smallest number of": "least",
    "at least": "atleast", "at most": "atmost", "least difficult": "easiest", "least expensive": "cheapest",
    "less expensive": "cheaper", "most expensive": "costliest", "leaving out": "without", "that lack": "without", "which lack": "without", "lacking": "without",
    "runner-up": "runnerup", "runner up": "runnerup", "crontab": "cron",
    "years old": "yo", "year old": "yo", "years of age": "yo", "off campus": "offcampus", "off-campus": "offcampus",
    "on campus": "oncampus", "on-campus": "oncampus", "last night": "lastnight",
    "square root": "squareroot", "square roots": "squareroot", "do n't": "don't", "does n't": "doesn't", "set up": "setup", "log in": "login", "sign in": "login",
    "signed in": "login", "signed up": "signup", "log out": "logout", "sign out": "logout", "check in": "checkin", "check-in": "checkin",
    "check out": "checkout", "check-out": "checkout", "turn on": "enable", "turned on": "enabled", "switch on": "enable",
    "turn off": "disable", "turned off": "disabled", "switch off": "disable", "sun rise": "sunrise", "sun set": "sunset",
    "or more": "atleast", "or fewer": "atmost", "or less": "atmost", "w/o": "without", "carry-on": "carryon", "hand luggage": "carryon luggage",
    "front-end": "frontend", "front end": "frontend", "back-end": "backend", "back end": "backend", "postgresql": "postgres",
    "in js": "in javascript", "in ts": "in typescript", "k8s": "kubernetes",
    "sign up": "signup", "the us": "the USA", "boy friend": "boyfriend", "girl friend": "girlfriend", "wi-fi": "wifi", "wi fi": "wifi",
}  # fmt: skip

BOUNDS = {
    word: bound
    for bound, words in (
        ("at", "in at on during exactly precisely"), ("least", "atleast"), ("most", "atmost"), ("negative", "negative"),
        ("below", "before until till precedes preceding predates under below less fewer smaller lower shorter younger cheaper"),
        ("above", "after since over above past beyond more greater larger bigger higher longer older"),
    )
    for word in words.split()
}  # fmt: skip
"""How a number limits what is asked for, by the word before it."""

LIMITING = (BOUNDS.keys() - _words("in at on during over past")) | _words(
    "by from per up within between exceed exceeds exceeding maximum minimum max min upper limit limited least most "
    "earlier later newer prior ago last next"
)
"""Where neither these nor the words above stand in a text, its numbers are not limited."""

TOOLS = _words("""
python java javascript typescript php ruby rust golang kotlin swift scala perl haskell erlang elixir matlab fortran cobol
lua julia clojure groovy dart vb.net c++ c# .net objective-c sql mysql postgresql postgres sqlite oracle mongodb redis
cassandra elasticsearch kafka rabbitmq html css xml json yaml csv pdf excel django flask rails laravel spring hibernate react
reactjs angular angularjs vue node node.js nodejs jquery bootstrap wordpress drupal joomla magento tensorflow pytorch keras
numpy pandas matplotlib hadoop spark docker kubernetes jenkins ansible terraform git github gitlab svn maven gradle eclipse
intellij netbeans xcode vim emacs windows linux ubuntu debian fedora centos macos ios android unix bash zsh powershell
aws azure gcp heroku firebase apache nginx tomcat selenium awk sed grep find xargs rsync ssh scp tar curl wget cron crontab
""") - {"find", "grep", "spring", "spark", "swift", "rails", "node", "windows"}

# One line is one family of terms that narrow what is asked for; a family named on one side only is another question.
WRITTEN_IN = {
    word: language
    for language, words in (
        ("python", "pandas numpy matplotlib django flask pytest scipy dataframe pip asyncio fastapi seaborn"),
        ("javascript", "react jquery nodejs npm vue jest lodash"),
        ("java", "hibernate maven junit"), ("ruby", "rails rspec"), ("php", "laravel symfony"),
        ("rust", "cargo tokio"),
    )
    for word in words.split()
}  # fmt: skip
"""Libraries and tools that leave no doubt about the language."""

QUALIFIERS = _groups("""
cheapest cheap lowest-priced affordable inexpensive
expensive luxury costliest
earliest
latest newest recent recently
major
largest biggest greatest highest maximum max
tallest
longest
smallest lowest minimum min fewest
shortest
average avg
easiest easy easily simplest simple straightforward
hardest difficult hard toughest tough
fastest quickest
only
myself himself herself yourself themselves ourselves
except excluding exclude besides
free
roundtrip
oneway
nonstop
distinct unique
natural naturally organic herbal homeopathic
professional professionally
commercial commercially
online internet
alive
severe severely
density dense
empty
hidden
async asynchronous asynchronously
duplicate duplicates duplicated
cumulative cumulatively
doubles
sorted ascending descending alphabetical alphabetically chronological chronologically
""")

IMPLYING = {
    "last": "latest", "first": "earliest", "top": "largest", "single": "only", "reverse": "backwards", "different": "distinct", "least": "smallest",
    "cheapest": "smallest", "lowest": "cheapest", "invisible": "hidden", "blank": "empty", "nothing": "empty",
    **dict.fromkeys(("whether", "signs", "symptoms", "know", "tell", "test", "check", "verify", "determine"), "whether"),
    **dict.fromkeys(("rather", "alternative", "alternatives", "substitute", "replace", "replacing", "than"), "instead"),
    **dict.fromkeys(("repeat", "repeated", "repeating"), "duplicate"),
    **dict.fromkeys(("type", "types", "kind", "kinds", "category", "categories", "methods"), "types"),
    **dict.fromkeys(("each", "every", "per", "by"), "each"),
}  # fmt: skip
"""Words that may stand for a term that narrows: where only the other text has the term, and this word only this one,
nothing is added."""
