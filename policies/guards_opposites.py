"""Terms of English that exclude each other, and the prefixes and endings that make such terms.

General vocabulary only, in lower case. Inflected forms are found by their stem; irregular ones are listed.
"""

# ruff: noqa: E501

from __future__ import annotations

OPPOSITES = tuple(
    tuple(frozenset(pole.split(",")) for pole in line.split())
    for line in """
before,prior,earlier,until after,later,since
first,earliest,initial,oldest last,latest,final,newest,recent
first second third fourth fifth sixth
old,older new,newer
max,maximum,highest,largest,biggest,greatest,longest,tallest,high,higher,large,larger,big,bigger,long,longer,tall min,minimum,lowest,smallest,shortest,low,lower,small,smaller,short,shorter,little
most,more,atleast,above,exceed,over least,less,atmost,fewer,fewest,below,under
atleast more,over,exceed exactly,precisely atmost less,fewer,under
any all,every none
after,past within
ascending,asc descending,desc
increase,raise,rise,grow,gain,boost decrease,reduce,lower,fall,drop,shrink,lose,decline
enable,activate,on,unlock,unblock,allow,show disable,deactivate,off,lock,block,prevent,forbid,hide
include,with exclude,without,except
add,create,insert,install,make,join,register,subscribe remove,delete,drop,uninstall,erase,leave,unsubscribe
create,insert update,edit,modify,alter delete,remove,drop
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
rain,rainy snow,snowy sunny,sun wind,windy cloudy,cloud fog,foggy storm,stormy humid,humidity
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
north,northern south,southern east,eastern west,western
left right
top,up,upper bottom,down
inside,indoor,indoors,internal,interior,inner outside,outdoor,outdoors,external,exterior,outer
front back,rear
single married divorced
debit credit
fixed variable,floating,adjustable
long-term short-term
long short
undergraduate graduate
day night
positive negative
lowercase uppercase
horizontal,row vertical,column
average,avg sum max,maximum,highest,largest min,minimum,lowest,smallest
mean median mode
read write
push pull
forward backward,backwards
parent child,children
adult,grown-up child,children,kid,toddler infant,baby,newborn
early late,later
even odd
singular plural
synonym antonym,opposite
active passive
noun verb adjective
synchronous,synchronously,sync asynchronous,asynchronously,async
static dynamic
local,locally global,globally remote,remotely
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
frontend,front-end backend,back-end
stdin stdout stderr
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
gold silver bronze
standard express,expedited,overnight
breakfast lunch dinner,supper
sunrise,dawn sunset,dusk
born,birth,birthplace died,die,death,dead
alive,living dead
marry,marriage,wedding divorce
hire,hired fire,fired
direct,director produce,producer
plus,addition minus,subtract,subtraction multiply,multiplied,multiplication divide,divided,division
area perimeter circumference volume
radius diameter
derivative,differentiate,differentiation integral,integrate,integration
sine,sin cosine,cos tangent,tan
numerator denominator
squareroot,square-root square,squared cube,cubed
lcm,multiple gcd,gcf,hcf,divisor
prime composite
quotient remainder
acute obtuse
parallel perpendicular
clockwise counterclockwise,anticlockwise
acid,acidic base,basic,alkaline
solid liquid gas
boil,boiling freeze,freezing,frozen melt,melting
proton electron neutron
anode cathode
vein artery
systolic diastolic
acute chronic
benign malignant
dominant recessive
predator prey
carnivore herbivore omnivore
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
landlord,lessor tenant,lessee
creditor debtor
donor recipient
employer employee
teacher,professor,instructor student,pupil
doctor,physician patient
host guest
driver passenger
asset liability
profit,gain loss,deficit
surplus deficit,shortage
income,revenue expense,cost
gross net
saving checking
traditional roth
principal interest
bullish bearish
supply demand
inflation deflation
billing shipping
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
nominee,nomination winner
right duty,obligation,responsibility
salaried hourly
checked carry-on,cabin
tighten loosen
tight loose
day week month year
daily weekly monthly yearly,annual,annually
checkin checkout
login logout
login signup
encourage,help discourage
theoretical practical
red blue green yellow black white orange purple pink brown
celsius fahrenheit
home,homeowner renter auto,car life health dental disability
indoors outdoors
former,ex,previous current,present,incumbent
past future
wet dry
thick thin
wide narrow
heavy light
full empty
clean dirty
sweet sour bitter
asleep,sleep awake,wake
introduction,beginning ending,conclusion
senate,senator house,congressman,congresswoman
""".strip().splitlines()
)
"""One line is one family of terms that exclude each other; terms of one pole are joined by commas."""

NEGATING = ("un", "in", "im", "il", "ir", "dis", "non", "de", "mis", "anti")
"""Prefixes that turn a word into its opposite: invisible, disconnect."""

EXCHANGED = (
    ("up", "down"), ("over", "under"), ("fore", "back"), ("front", "back"), ("in", "out"), ("in", "ex"), ("im", "ex"),
    ("white", "black"), ("hyper", "hypo"), ("pre", "post"), ("macro", "micro"), ("intra", "inter"), ("maxi", "mini"),
    ("pro", "anti"), ("mono", "poly"), ("mono", "multi"), ("single", "multi"), ("uni", "multi"), ("homo", "hetero"),
    ("endo", "exo"), ("sub", "super"),
)  # fmt: skip
"""Prefixes that stand for opposite things: upgrade and downgrade."""

ENDINGS = (("ful", "less"), ("er", "ee"), ("or", "ee"))
"""Endings likewise: useful and useless, employer and employee."""
