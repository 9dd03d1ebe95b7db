"""Terms of English that exclude each other, and the prefixes and endings that make such terms.

General vocabulary only, in lower case. Inflected forms are found by their stem; irregular ones are listed.
"""

# ruff: noqa: E501

from __future__ import annotations


def _families(text: str) -> tuple[tuple[frozenset[str], ...], ...]:
    """One line is one family of terms that exclude each other; terms of one pole are joined by commas."""
    return tuple(
        tuple(frozenset(pole.split(",")) for pole in line.split()) for line in text.strip().splitlines()
    )


OPPOSITES = _families("""
before,prior,earlier,until after,later,since
first,earliest,initial,oldest last,latest,final,newest,recent
old,older new,newer
max,maximum,highest,largest,biggest,greatest,longest,tallest,high,higher,large,larger,big,bigger,long,longer,tall min,minimum,lowest,smallest,shortest,low,lower,small,smaller,short,shorter,little
most,more,atleast,above,exceed,over least,less,atmost,fewer,fewest,below,under
atleast more,over,exceed exactly,precisely atmost less,fewer,under
any all,every none
after,past within
ascending,asc descending,desc
increase,raise,rise,grow,gain,boost decrease,reduce,lower,fall,drop,shrink,lose,decline,discount,cut
enable,activate,on,unlock,unblock,allow,show disable,deactivate,off,lock,block,prevent,forbid,hide
include,with exclude,without,except
set,assign remove,unset,clear,delete
exist,exists missing,absent
add,create,insert,install,make,join,register,subscribe remove,delete,drop,uninstall,erase,leave,unsubscribe
open,start,begin close,stop,end,quit,finish
buy,bought,purchase,buyer sell,sold,seller
deposit withdraw,withdrawal,withdrawn
send,sent receive
import export
upload download
encrypt,encode decrypt,decode
compress,zip extract,decompress,unzip,uncompress
lend,lent,lender borrow,borrower
win,won,winner lose,lost,loser
love,like hate,dislike
gain lose,loss,lost
keep,kept,preserve,retain discard,throw
true false
same,identical different
difference,differences,differ similarity,similarities,common
success,succeed,successful failure,fail
cause cure,treatment,treat
symptom cause
symptom cure,treatment
accept,approve,approval,grant reject,decline,deny,revoke,refuse
advantage,pro,pros,benefit disadvantage,con,cons,drawback
better,best,good worse,worst,bad
always never
all,every,everyone,everybody none,nobody,nothing
safe,legal,possible unsafe,illegal,impossible,dangerous
cheap,cheaper,cheapest expensive,costly,priciest
hot,hotter,hottest,warm,warmer cold,colder,coldest,cool,chilly
fast,faster,fastest,quick slow,slower,slowest
easy,easier,easiest hard,harder,hardest,difficult
rich,richest poor,poorest
strong,strongest weak,weakest
young,younger,youngest old,older,oldest
arrive,arrival depart,departure,leave
inbound,incoming outbound,outgoing
domestic international
one-way,oneway round,roundtrip
public private
male,males,man,men,boy,guy,husband,boyfriend,father,dad,brother,son,uncle,nephew,grandfather,grandpa female,females,woman,women,girl,lady,wife,girlfriend,mother,mom,mum,sister,daughter,aunt,niece,grandmother,grandma
he,him,his she,her,hers
king queen
prince princess
husband,wife,spouse boyfriend,girlfriend
father,dad,mother,mom,mum,parent son,daughter,child,children,kid
brother,sister,sibling son,daughter,child,children,kid,father,mother,dad,mom,mum,parent
husband,wife,spouse son,daughter,child,children,kid,baby
left right
top,up,upper bottom,down
inside,indoor,indoors,internal,interior,inner outside,outdoor,outdoors,external,exterior,outer
front back,rear
single married divorced widowed
debit credit
fixed variable,floating,adjustable
long-term short-term
long short
undergraduate graduate
day night
positive negative
lowercase uppercase
horizontal,row vertical,column
read write
push pull
forward backward,backwards
parent child,children
early late,later
even odd
singular plural
synonym antonym,opposite
active passive
synchronous,synchronously,sync asynchronous,asynchronously,async
static dynamic
shallow deep
stack queue
key value
head tail
prefix suffix
prepend append
commit rollback,revert
merge split
attach detach
mount unmount
expand collapse,contract,shrink
serial,sequential parallel
request response
client server
frontend backend
input output
load save,store
backup restore
whitelist,allowlist blacklist,blocklist,denylist
ingress egress
time space,memory
text binary
physical virtual,logical
online offline
manual automatic
automatic,automatically manually
temporary permanent
temporarily permanently
partial,partially,partly full,fully,complete,completely,entirely
minimize,minimise maximize,maximise
closest,nearest,near,close farthest,furthest,far
near,nearby far
standard express,expedited,overnight
sunrise,dawn sunset,dusk
born,birth,birthplace died,die,death,dead
alive,living dead
marry,marriage,wedding divorce
hire,hired fire,fired
direct,director produce,producer
radius diameter
derivative,differentiate,differentiation integral,integrate,integration
numerator denominator
lcm,multiple gcd,gcf,hcf,divisor
prime composite
quotient remainder
acute obtuse
parallel perpendicular
clockwise counterclockwise,anticlockwise
acid,acidic base,basic,alkaline
anode cathode
vein artery
systolic diastolic
acute chronic
benign malignant
dominant recessive
predator prey
latitude longitude
ancestor descendant
optimist pessimist
introvert extrovert
attack defend,defence,defense
victory defeat
civil criminal
guilty innocent
felony misdemeanor,misdemeanour
plaintiff defendant
landlord,lessor tenant,lessee,renter
creditor debtor
donor recipient
employer employee
teacher,professor,instructor,lecturer,faculty student,pupil
doctor,physician patient
host guest
driver passenger
asset liability
profit,gain loss,deficit
surplus deficit,shortage
income,revenue expense,cost
saving checking
traditional roth
principal interest
bullish bearish
supply demand
inflation deflation
billing shipping,delivery
refund exchange
activate,activation cancel,cancellation
prepaid postpaid
urban rural
catch throw
required,mandatory,compulsory optional,recommended,voluntary
primary replica,secondary
shipped delivered
for against
injured,wounded killed,dead
government opposition
nominee,nomination,nominated winner,won
right duty,obligation,responsibility
salaried hourly
checked carryon,cabin
tighten loosen
tight loose
checkin checkout
login logout
login signup
encourage,help discourage
theoretical practical
celsius fahrenheit
indoors outdoors
former,ex,previous current,present,incumbent
past future
wet dry
thick thin
wide narrow
heavy light
full empty
clean dirty
asleep,sleep awake,wake
introduction,beginning ending,conclusion
senate,senator house,congressman,congresswoman
major minor
verbal,oral written
support,supporter oppose,opposed,opponent
build,built destroy,destroyed
smart,intelligent stupid,dumb
beautiful,pretty ugly
discrete continuous
lost found
remember,recall forget
request approve
local,locally remote,remotely
inclusive,inclusively exclusive,exclusively,strictly
earn,collect redeem,spend
uphold,upheld overturn,overturned,strike,struck
""")
"""Of these a "not" makes the other ("is it legal", "is it not illegal"), or nearly ("not at least 5", "less than 5")."""

KINDS = _families("""
before,prior,until during,while
after,since during,while
schema data
contribution earning
total net
start,begin peak
skip stop
same earlier later
built,build,founded,founding fell,fall,collapse
process,processing ship,shipped deliver,delivered
parameter,argument,param return
twice,double half triple,thrice
simple compound
deep shallow
formal informal,casual,friendly
final semifinal quarterfinal
delivery,deliver,delivered pickup
fiscal calendar
produce consume
single all,every,whole,entire
kill,killed,death,die,died injure,injured,injury displace,displaced arrest,arrested rescue,rescued evacuate,evacuated
candidate winner loser runnerup
every atleast
single career,history
meaning origin,etymology
brief,briefly,concise detail,detailed
hire,hired fire,fired,layoff,laid,lay
direct,directed,director star,starred,starring write,wrote,written
place,placed ship,shipped return,returned cancel,cancelled,canceled
admit,admitted discharge,discharged
day week month year
gross net operating
ira pension annuity
hourly daily weekly monthly quarterly yearly,annual,annually
red blue green yellow black white orange purple pink brown
home,homeowner renter auto,car life health dental disability
sweet sour bitter
first second third fourth fifth sixth
second third fourth fifth last
create,insert update,edit,modify,alter delete,remove,drop
rain,rainy snow,snowy sunny,sun wind,windy cloudy,cloud fog,foggy storm,stormy,thunderstorm humid,humidity hail frost flood,flooding drought tornado hurricane temperature,temp
north,northern south,southern east,eastern west,western
average,avg sum max,maximum,highest,largest min,minimum,lowest,smallest
mean median mode range
adult child,children,kid,toddler infant,baby,newborn
noun verb adjective
local,locally global,globally remote,remotely
stdin stdout stderr
gold silver bronze platinum copper
breakfast lunch dinner,supper
plus,addition minus,subtract,subtraction multiply,multiplied,multiplication divide,divided,division
area perimeter circumference volume
sine,sin cosine,cos tangent,tan
squareroot square,squared cube,cubed
solid liquid gas
boil,boiling freeze,freezing,frozen melt,melting
proton electron neutron
carnivore herbivore omnivore
file directory,folder
line word character,char byte
access,accessed modify,modified,modification
copy move rename delete,remove
install update,upgrade
start stop restart
merge rebase squash
awk sed cut jq perl
rsync scp cp
tar zip gzip bzip2 xz
wget curl
apt yum dnf brew
npm yarn pip conda
ls cp mv rm
tcp udp
ipv4 ipv6
cpu,processor memory,ram disk
int,integer float,double string boolean,bool
header footer body
username password
cookie session token
development,dev staging production,prod
primary foreign
container image volume
pod deployment statefulset daemonset cronjob configmap
liveness readiness startup
table column,field row,record database index trigger
name id,ids,identifier date age address phone,telephone price,cost salary description
forename surname fullname
weight height length width depth
sum,total average,avg,mean
customer,client supplier,vendor employee,staff
invoice receipt refund
author publisher editor translator
actor,actress director producer writer,screenwriter composer
song,track album
conference journal
city,town country,nation province continent county
origin,source destination
revenue profit,earnings debt cash
dividend buyback
stock,share bond
ceo cfo cto coo chairman founder
interest exchange inflation unemployment
deductible premium copay
single,sole joint
activate freeze
late damaged missing
inner cross left right
size number,count value
sold listed rented
gave won bought ate sold
return,returning leave,leaving,depart,departing
toward,towards away
oncampus offcampus
decline,declined pending revert,reverted
email postal,postcode
restaurant hotel,hostel museum pharmacy
aisle window
economy business
train bus taxi,cab ferry flight,plane car
pool gym parking wifi
vegetarian vegan seafood halal kosher
visa passport
umbrella jacket,coat sunscreen
watch warning
sail hike swim ski fish
air water
kidney,renal liver,hepatic lung,pulmonary heart,cardiac bladder brain stomach skin colon breast prostate thyroid pancreas,pancreatic
knee elbow ankle hip shoulder wrist neck
arm leg
hand foot,feet
bacterial viral fungal
virus bacteria,bacterium fungus
protein carbohydrate,carb fat fiber,fibre
aspirin ibuprofen paracetamol,acetaminophen naproxen
contagious hereditary curable,treatable preventable fatal,deadly
prevent,prevention treat,treatment,cure diagnose,diagnosed,diagnosis
burn bite sting bruise fracture sprain
trademark patent copyright
murder manslaughter theft robbery burglary
evasion avoidance
arrest,arrested acquit,acquitted convict,convicted
governor mayor senator president
coach owner captain
earthquake flood wildfire hurricane strike
economy,economic climate immigration healthcare
business sport politics,political entertainment technology science
flower animal bird anthem flag
capital population currency language religion
mars venus jupiter saturn neptune uranus pluto
sun moon
mammal reptile bird fish amphibian insect
atom molecule
mitosis meiosis
dna rna
comet asteroid
kinetic potential
velocity,speed acceleration
mass volume density
ionic covalent
evaporation condensation
communism capitalism socialism
democrat republican
christian muslim jewish hindu buddhist
music movie,film book food color,colour sport animal
happy,glad sad,unhappy angry tired hungry thirsty bored lonely scared,afraid
sing dance draw cook
cat dog horse
story joke poem secret riddle
eat drink sleep
solve factor simplify expand
sum difference product quotient
triangle circle rectangle cube sphere cone cylinder pyramid
mean variance deviation
union intersection
permutation combination
arithmetic geometric
sell,sale rent,rental
start,begin,beginning contain,containing
end,ending contain,containing
default maximum,max minimum,min
job step workflow
hotel hostel,hostels motel apartment campsite
neither both either
tenth ten
hundredth hundred
thousandth thousand
real complex rational natural
started,start renewed,renew expired,expire
million billion
half third quarter fifth
partial total
must may,might
top base,foot
resign,resigned sacked,fired,dismissed
""")
"""Of one kind, but no "not" makes one of the other: a file is not all that is no folder. They are asked before
`OPPOSITES`."""

NEGATING = ("un", "in", "im", "il", "ir", "dis", "non", "de", "mis", "anti", "re")
"""Prefixes that turn a word into its opposite, or into another: invisible, disconnect, rejoin."""

EXCHANGED = (
    ("up", "down"), ("over", "under"), ("fore", "back"), ("front", "back"), ("in", "out"), ("in", "ex"), ("im", "ex"),
    ("white", "black"), ("hyper", "hypo"), ("pre", "post"), ("macro", "micro"), ("intra", "inter"), ("maxi", "mini"),
    ("pro", "anti"), ("mono", "poly"), ("mono", "multi"), ("single", "multi"), ("uni", "multi"), ("homo", "hetero"),
    ("endo", "exo"), ("sub", "super"),
)  # fmt: skip
"""Prefixes that stand for opposite things: upgrade and downgrade."""

ENDINGS = (("ful", "less"), ("er", "ee"), ("or", "ee"))
"""Endings likewise: useful and useless, employer and employee."""
