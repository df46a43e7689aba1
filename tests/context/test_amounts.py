"""Amounts, levels and shares: what a number is by the words around it, and what changes nothing."""

import doctest

import pytest

from tests.context.sentences import understand
from tsllm.context import amounts, capacities

CHANGES = {
    "Load rises by 10 MW tomorrow.": "add 10 from 2 to 3",
    "Load will rise by 10 on Friday.": "add 10 from 3 to 4",
    "Sales drop by 15 units tomorrow.": "add -15 from 2 to 3",
    "Sales are 100 more than usual on Friday.": "add 100 from 3 to 4",
    "On Friday there are 50 more visitors than usual.": "add 50 from 3 to 4",
    "On Friday it is 5 below normal.": "add -5 from 3 to 4",
    "Demand is 12 lower than usual from 08:00 to 12:00 on Friday.": "add -12 from 3 08:00 to 3 12:00",
    "We need an extra 30 MW from 14:00 to 18:00 on Friday.": "add 30 from 3 14:00 to 3 18:00",
    "An additional 30 MW is needed on Friday.": "add 30 from 3 to 4",
    "A new customer adds 20 on Friday.": "add 20 from 3 to 4",
    "A new customer adds 20 MW from Friday on.": "add 20 from 3",
    "Output falls by 2.5 MW over the weekend.": "add -2.5 from 4 to 6",
    "Consumption increases by 1,200 kWh on Saturday.": "add 1200 from 4 to 5",
    "Consumption is up by 40 on Saturday.": "add 40 from 4 to 5",
    "Consumption is down by 40 kW on Saturday.": "add -40 from 4 to 5",
    "Sales are down 15 on Friday.": "add -15 from 3 to 4",
    "Sales are up 15 units on Friday.": "add 15 from 3 to 4",
    "A drop of 15 MW is expected on Friday.": "add -15 from 3 to 4",
    "We expect an increase of about 25 MW on Friday.": "add 25 from 3 to 4",
    "A reduction of twenty units is planned for Friday.": "add -20 from 3 to 4",
    "Demand will be 20 higher on Friday.": "add 20 from 3 to 4",
    "Demand will be 20 MW lower on Friday.": "add -20 from 3 to 4",
    "It will be 10 above the forecast on Friday.": "add 10 from 3 to 4",
    "Ten fewer orders than usual are expected on Friday.": "add -10 from 3 to 4",
    "The plant loses 200 MW on Friday.": "add -200 from 3 to 4",
    "Output is reduced by 30 MW on Friday.": "add -30 from 3 to 4",
    "Subtract 5 on Friday.": "add -5 from 3 to 4",
    "Add 5 on Friday.": "add 5 from 3 to 4",
    "The price rises by 10 euros on Friday.": "add 10 from 3 to 4",
    "The price falls by $5 on Friday.": "add -5 from 3 to 4",
    "On Friday sales go up by 30.": "add 30 from 3 to 4",
    "Output rises to 50 on Friday.": "set 50 from 3 to 4",
    "Output drops to 40 MW on Friday.": "set 40 from 3 to 4",
    "Output is cut to 40 MW from 08:00 to 12:00 on Friday.": "set 40 from 3 08:00 to 3 12:00",
    "Output drops to zero on Friday.": "set 0 from 3 to 4",
    "Output falls from 14 to 8 on Friday.": "set 8 from 3 to 4",
    "Output goes down from 20 to 12 MW on Friday.": "set 12 from 3 to 4",
    "The price is reduced from 60 to 40 on Friday.": "set 40 from 3 to 4",
    "Output rises to no more than 60 on Friday.": "cap 60 from 3 to 4",
    "Output stays below 60 on Friday.": "cap 60 from 3 to 4",
    "Output drops to at least 20 on Friday.": "floor 20 from 3 to 4",
    "Tomorrow load goes up by 200 MW.": "add 200 from 2 to 3",
    "Tomorrow's load is 200 MW higher.": "add 200 from 2 to 3",
    "Load is expected to be 200 MW lower than forecast on Saturday.": "add -200 from 4 to 5",
    "Load will be lower by 200 MW on Saturday.": "add -200 from 4 to 5",
    "Load will be higher by 30 on Saturday.": "add 30 from 4 to 5",
    "Expect 15 fewer on Saturday.": "add -15 from 4 to 5",
    "On Saturday we will need 40 MW more.": "add 40 from 4 to 5",
    "On Saturday, 40 MW less are needed.": "add -40 from 4 to 5",
    "The concert brings an extra 500 visitors on Friday.": "add 500 from 3 to 4",
    "The concert brings 500 extra visitors on Friday evening.": "add 500 from 3 18:00 to 4",
    "500 additional passengers will arrive on Friday.": "add 500 from 3 to 4",
    "Between 14:00 and 18:00 on Friday an extra 30 MW are drawn.": "add 30 from 3 14:00 to 3 18:00",
    "From Friday 14:00 to 18:00 consumption increases by 30 kWh.": "add 30 from 3 14:00 to 3 18:00",
    "The level drops by 0.5 on Friday.": "add -0.5 from 3 to 4",
    "Prices drop by 12.5 on Friday.": "add -12.5 from 3 to 4",
    "Prices will jump by 12.5 €/MWh on Friday.": "add 12.5 from 3 to 4",
    "The spot price will be 20 EUR/MWh higher on Friday.": "add 20 from 3 to 4",
    "The price climbs to 90 EUR/MWh on Friday.": "set 90 from 3 to 4",
    "Output ramps down to 100 MW on Friday.": "set 100 from 3 to 4",
    "Output is throttled to 100 MW on Friday.": "set 100 from 3 to 4",
    "Production is lowered to 100 from 10:00 to 12:00 on Friday.": "set 100 from 3 10:00 to 3 12:00",
    "Production is lowered by 100 from 10:00 to 12:00 on Friday.": "add -100 from 3 10:00 to 3 12:00",
    "Sales increase from 100 to 150 on Friday.": "set 150 from 3 to 4",
    "Sales rise by almost 10 on Friday.": "add 10 from 3 to 4",
    "The number of orders falls by 8 on Friday.": "add -8 from 3 to 4",
    "The number of visitors rises to 800 on Friday.": "set 800 from 3 to 4",
}
SHARES = {
    "The plant runs at 20 % on Friday.": "multiply 0.2 from 3 to 4",
    "The plant runs at 60 % of capacity on Friday.": "multiply 0.6 from 3 to 4",
    "The plant operates at 60% of its usual output on Friday.": "multiply 0.6 from 3 to 4",
    "Demand is at 60 percent of normal on Friday.": "multiply 0.6 from 3 to 4",
    "The plant operates at half capacity on Friday.": "multiply 0.5 from 3 to 4",
    "The plant runs at half load on Friday.": "multiply 0.5 from 3 to 4",
    "Only 30 % of the usual demand is expected on Friday.": "multiply 0.3 from 3 to 4",
    "Demand drops to 40 % of the usual on Friday.": "multiply 0.4 from 3 to 4",
    "Demand drops to 40 % on Friday.": "multiply 0.4 from 3 to 4",
    "Demand rises to 120 % of its normal level on Friday.": "multiply 1.2 from 3 to 4",
    "Demand will be 80 % of normal on Friday.": "multiply 0.8 from 3 to 4",
    "The plant runs at three quarters of its capacity on Friday.": "multiply 0.75 from 3 to 4",
    "The plant runs at two thirds of the normal level on Friday.": "multiply 0.6666666666666666 from 3 to 4",
    "The plant has a capacity of 500 MW. It runs at 20 % of capacity on Friday.": "set 100 from 3 to 4",
    "The plant (capacity 500 MW) runs at 20 % of its capacity on Friday.": "set 100 from 3 to 4",
    "The plant runs at half of its capacity of 500 MW on Friday.": "set 250 from 3 to 4",
    "Sales rise by 20 % on Friday.": "multiply 1.2 from 3 to 4",
    "Sales are 20 % lower than usual on Friday.": "multiply 0.8 from 3 to 4",
    "Sales are down 20 % on Friday.": "multiply 0.8 from 3 to 4",
    "The plant is down 20 % on Friday.": "multiply 0.8 from 3 to 4",
    "On Friday the plant runs at 75%.": "multiply 0.75 from 3 to 4",
    "On Friday only 75% of normal production is possible.": "multiply 0.75 from 3 to 4",
    "On Friday production is at 75 % of its normal level.": "multiply 0.75 from 3 to 4",
    "On Friday production will be half the usual.": "multiply 0.5 from 3 to 4",
    "On Friday production will be half of normal.": "multiply 0.5 from 3 to 4",
    "On Friday production falls to half.": "multiply 0.5 from 3 to 4",
    "Output falls to 30% of capacity from 08:00 to 12:00 on Friday.": "multiply 0.3 from 3 08:00 to 3 12:00",
    "The plant works at 40 percent of full load on Friday.": "multiply 0.4 from 3 to 4",
    "We expect 150 % of the usual demand on Friday.": "multiply 1.5 from 3 to 4",
    "Sales reach 150 % of the normal level on Friday.": "multiply 1.5 from 3 to 4",
    "A third of the normal traffic is expected on Friday.": "multiply 0.3333333333333333 from 3 to 4",
    "The capacity is 500 MW. The plant runs at half capacity on Friday.": "set 250 from 3 to 4",
}
MORE = {
    "Output stays at 40 on Friday.": "set 40 from 3 to 4",
    "Output remains at 40 MW on Friday.": "set 40 from 3 to 4",
    "The price is kept at 40 on Friday.": "set 40 from 3 to 4",
    "A strike keeps output at 40 on Friday.": "set 40 from 3 to 4",
    "Demand will be 40 on Friday.": "set 40 from 3 to 4",
    "Demand is expected to be about 40 MW on Friday.": "set 40 from 3 to 4",
    "The price will not be higher than 60.": "cap 60",
    "The price will not be lower than 60.": "floor 60",
    "The price never exceeds 60.": "cap 60",
    "The price never falls below 60.": "floor 60",
    "Output is kept under 60 on Friday.": "cap 60 from 3 to 4",
    "No fewer than 60 visitors come on Friday.": "floor 60 from 3 to 4",
    "The price has a floor of 20 and a ceiling of 60.": "floor 20 | cap 60",
    "Output is 10 higher than usual and capped at 60 on Friday.": "add 10 from 3 to 4 | cap 60 from 3 to 4",
    "Sales rise by 10 on Friday. They fall by 20 on Saturday.": "add 10 from 3 to 4 | add -20 from 4 to 5",
    "With the mill closed on Friday, load falls by 5 MW.": "add -5 from 3 to 4",
    "There is a fair on Friday. We expect 50 more visitors than usual.": "add 50 from 3 to 4",
    "The line is repaired from 8 to 16 on Friday. Output falls by 30 MW.": "add -30 from 3 08:00 to 3 16:00",
    "The plant was built in 1998 and has 5 units. On Friday it produces nothing.": "set 0 from 3 to 4",
    "Revenue rises by 10 % on Friday.": "multiply 1.1 from 3 to 4",
    "Demand on Friday: 50 above normal.": "add 50 from 3 to 4",
    "We're closed Friday.": "set 0 from 3 to 4",
    "We are closed 8-14 h on Friday.": "set 0 from 3 08:00 to 3 14:00",
    "Closed Friday 8-14.": "set 0 from 3 08:00 to 3 14:00",
    "On Friday 8 to 14 boats sail, and sales fall by 10.": "add -10 from 3 to 4",
    "Closed on Friday, 8 - 14.": "set 0 from 3 08:00 to 3 14:00",
    "Output is capped at 60. The manager returns on Sunday.": "cap 60",
    "Output is capped at 60 from Friday. It returns to normal on Sunday.": "cap 60 from 3 to 5",
    "The mill reopens on Friday. Output is capped at 60.": "cap 60",
    "On Saturday demand surges by 300 MW.": "add 300 from 4 to 5",
    "We forecast 25 fewer calls than normal on Sunday.": "add -25 from 5 to 6",
    "From Friday on, output is 15 units lower.": "add -15 from 3",
    "Maintenance cuts output by 80 MW on 6 May from 08:00 to 12:00.": "add -80 from 6 08:00 to 6 12:00",
    "The heat wave adds 50 MW to the load on Saturday.": "add 50 from 4 to 5",
    "On Sunday, the load will exceed the usual by 40 MW.": "add 40 from 5 to 6",
    "Ridership is expected to drop by 1,000 on Sunday.": "add -1000 from 5 to 6",
    "Ridership dips to 2,000 on Sunday.": "set 2000 from 5 to 6",
    "An outage takes away 60 MW on Friday.": "add -60 from 3 to 4",
    "Load is reduced to 70 MW between 10 and 16 on Friday.": "set 70 from 3 10:00 to 3 16:00",
    "Load is reduced by 70 MW between 10 and 16 on Friday.": "add -70 from 3 10:00 to 3 16:00",
    "Turbine output is 30 % of normal tomorrow.": "multiply 0.3 from 2 to 3",
    "Tomorrow we work at half strength.": "multiply 0.5 from 2 to 3",
    "The factory operates at 70 per cent until Friday.": "multiply 0.7 to 4",
    "The shop makes just a quarter of its normal sales on Sunday.": "multiply 0.25 from 5 to 6",
    "The mine is idle over the weekend.": "set 0 from 4 to 6",
    "All machines stand still on Sunday.": "set 0 from 5 to 6",
    "The kiln doesn't run from 8 to 20 on Friday.": "set 0 from 3 08:00 to 3 20:00",
    "We are not open on Sunday.": "set 0 from 5 to 6",
    "The museum isn't open on Sunday.": "set 0 from 5 to 6",
    "There won't be any production on Sunday.": "set 0 from 5 to 6",
    "No power will be generated on Sunday.": "set 0 from 5 to 6",
    "Server 2 goes down on Friday from 10:00 to 12:00.": "set 0 from 3 10:00 to 3 12:00",
    "The mill shuts down on Friday and comes back on Monday.": "set 0 from 3 to 6",
    "The mill is shut from Friday evening and reopens on Monday morning.": "set 0 from 3 18:00 to 6 06:00",
    "Output is zero from Friday 06:00, restarting at 18:00.": "set 0 from 3 06:00 to 3 18:00",
    "The plant is closed all of Friday and Saturday.": "set 0 from 3 to 4 | set 0 from 4 to 5",
    "The plant is closed from Friday until Sunday evening.": "set 0 from 3 to 6",
    "The plant is closed for two days from Friday.": "set 0 from 3 to 5",
    "The plant is closed for the next two weeks.": "set 0 from 2 to 16",
    "The plant is closed as of Friday.": "set 0 from 3",
    "Starting Friday the plant is closed for 3 days.": "set 0 from 3 to 6",
    "The plant is closed after 18:00 on Friday.": "set 0 from 3 18:00",
    "Output drops to 14 from 20 on Friday.": "set 14 from 3 to 4",
    "The plant is closed on Friday, so there could be delays.": "set 0 from 3 to 4",
    "Suppose that on Friday a fair would bring twice the usual demand.": "multiply 2 from 3 to 4",
    "Sales fall by 10 on Friday, which may surprise some.": "add -10 from 3 to 4",
    "Output could be at most 60 on Friday.": "cap 60 from 3 to 4",
    "Sales rise by 10 on Friday and fall by 20 on Saturday.": "add 10 from 3 to 4 | add -20 from 4 to 5",
    "Sales fall by 20 % on Friday, and on Sunday the shop is closed.": "multiply 0.8 from 3 to 4 | set 0 from 5 to 6",
}
# What follows the text is the reason that is given; empty where there is nothing to be said.
NO_AMOUNTS = {
    "Output rises by no more than 60 on Friday.": "a range or a limit of a change",
    "Output may rise up to 60 on Friday.": "a range or a limit of a change",
    "Output will not rise by 10 on Friday.": "",
    "Output does not fall by 10 on Friday.": "",
    "Sales increase by 10 per hour on Friday.": "so much in every step",
    "Sales grow by 10 each day from Friday on.": "so much in every step",
    "Sales fall to 40 by Friday.": "what is reached by some time",
    "Sales rise by 10 to 20 on Friday.": "a range or a limit of a change",
    "Sales rise by 10-20 on Friday.": "a range or a limit of a change",
    "Sales rise by at least 10 on Friday.": "a range or a limit of a change",
    "Sales rise by up to 10 on Friday.": "a range or a limit of a change",
    "The number of machines rises to 8 on Friday.": "another unit than the series",
    "The temperature falls to 5 degrees on Friday.": "another unit than the series",
    "It is 5 degrees colder on Friday.": "",
    "The shop moves to building 5 on Friday.": "",
    "Line 3 goes to 2 shifts on Friday.": "",
    "Bus 10 runs to Main Street on Friday.": "",
    "Our team drops to 5 on Friday.": "another unit than the series",
    "The team grew to 20 people.": "",
    "She was promoted to level 5.": "",
    "The firm grew to 20 sites in 2019.": "",
    "In 2019 output fell to 40.": "",
    "The company employs 50 more people than usual on Friday.": "another unit than the series",
    "The plant is 10 years old.": "",
    "There are 24 hours in a day.": "",
    "The forecast covers 10 days.": "",
    "The series is measured in MW at 5 sites.": "",
    "The meter reads every 15 minutes.": "",
    "Sales on Friday were 20 lower than usual last week.": "Friday = 2024-04-26, over before the forecast",
    "It is 10 km to the next town.": "",
    "Gas prices rise by 10 on Friday.": "another unit than the series",
    "Sales are 10 higher than last Friday.": "compared with another time",
    "On Friday sales will be 10 % higher than last year.": "compared with another time",
    "On Friday sales will be 10 % higher than on Thursday.": "compared with another time",
    "Sales will be twice as high as last year on Friday.": "",
    "Compared with last year sales will be 10 higher on Friday.": "compared with another time",
    "Had it rained, sales would fall by 10 on Friday.": "what may or would be",
    "Sales would be 10 lower on Friday.": "what may or would be",
    "Without the fair, sales would drop to 40 on Friday.": "what may or would be",
    "As long as it rains, sales fall by 10 on Friday.": "",
    "Unless it rains, sales rise by 10 on Friday.": "",
    "In case of rain sales fall by 10 on Friday.": "",
    "The plant has 5 units.": "",
    "It was built in 1998.": "",
    "We have 20 employees.": "",
    "We hire 20 more employees on Friday.": "",
    "On Friday the staff grows by 5.": "another unit than the series",
    "The number of employees rises by 5 on Friday.": "another unit than the series",
    "We add 3 new machines on Friday.": "",
    "There are 2 more stops on Friday.": "",
    "The shift starts 2 hours earlier on Friday.": "",
    "The delay grows by 20 minutes on Friday.": "",
    "Interest rates rise by 2 percentage points on Friday.": "another unit than the series",
    "The rate rises by 25 basis points on Friday.": "another unit than the series",
    "Wages rise by 2 euros on Friday.": "another unit than the series",
    "Sales were 100 more than usual last Friday.": "last Friday = 2024-04-26, over before the forecast",
    "Sales rose by 15 units yesterday.": "yesterday = 2024-05-01, over before the forecast",
    "Sales on Friday are 20 more than last year.": "compared with another time",
    "Friday was 20 more than in 2019.": "",
    "It takes 3 days to get there.": "",
    "On Friday it is 5 below zero.": "",
    "If it rains, sales fall by 15 units on Friday.": "",
    "Sales might fall by 15 units on Friday.": "",
    "Sales could fall by 15 units on Friday.": "what may or would be",
    "The plant may be closed on Friday.": "what may or would be",
    "The plant could be closed on Friday.": "what may or would be",
    "Last year sales fell by 15 units on the same day.": "",
    "One in 5 shops is part of the chain.": "",
    "More than 100 people live there.": "",
    "Team A leads by 10 points on Friday.": "",
    "The road is 10 km longer on Friday.": "",
    "Unit 3 is repaired on Friday.": "",
    "Section 4 was added on Friday.": "",
    "Page 12 is about 5 topics.": "",
    "We lose 5 workers on Friday.": "",
    "Prices vary between 100 and 200.": "",
}
NO_SHARES = {
    "Output is limited to 60 % of the usual on Friday.": "",
    "The plant runs at full capacity on Friday.": "",
    "20 % of the staff are ill on Friday.": "",
    "30 % of our customers come from abroad.": "",
    "Half of the staff is ill on Friday.": "",
    "The plant covers 20 % of the city's demand.": "",
    "There is a 60 % chance of rain on Friday.": "",
    "A discount of 20 % is given on Friday.": "",
    "All goods are 20 % off on Friday.": "",
    "Humidity rises to 80 % on Friday.": "",
    "Sales reach 20 % of the yearly total on Friday.": "",
    "One third of the students are away on Friday.": "",
    "Half of the shops are closed on Friday.": "only a part, or something else than the series",
    "The battery is at 20 % on Friday.": "",
    "The battery drops to 20 % on Friday.": "",
    "Gas covers 20 % of the usual load on Friday.": "",
    "A 20 % share of production is exported.": "",
}
NO_MORE = {
    "Demand is 40.": "",
    "Anna stays at 5 Main Street on Friday.": "",
    "A competitor's plant is closed on Friday.": "only a part, or something else than the series",
    "The neighbouring mill is down on Friday.": "only a part, or something else than the series",
    "Another plant is shut on Friday.": "only a part, or something else than the series",
    "It is 40 degrees on Friday.": "",
    "The team will be 40 on Friday.": "",
    "It stays at level 5 on Friday.": "",
    "It is winter. The plant has 5 units of 100 MW each. 20 people work there.": "",
    "We moved from 20 to 30 employees.": "",
    "On Friday we open at 8.": "",
    "The match on Friday ends 3 to 1.": "",
    "Our rating is 5 stars.": "",
    "Chapter 3 to 5 are read on Friday.": "",
    "We had 100 visitors on Friday, 20 more than usual.": "Friday = 2024-04-26, over before the forecast",
    "The price of a ticket rises to 12 euros on Friday.": "another unit than the series",
    "Friday's bill is 20 euros.": "",
    "Two more shops open on Friday.": "",
    "One more day until Friday.": "",
    "She works 8 to 14 hours on Friday.": "",
    "The trip takes from 8 to 14 hours on Friday.": "",
    "From 2 to 3 shops are closed on Friday.": "'From 2 to 3' may be hours or amounts; write 08:00",
    "On Friday the temperature is from 8 to 14.": "",
    "A 20 MW unit starts on Friday.": "",
    "A 20 MW unit is added on Friday.": "",
    "The store is out of 5 products on Friday.": "",
    "Traffic is down on Friday.": "",
    "It rained 5 mm more than usual on Friday.": "another unit than the series",
    "Closed Friday 8 - 10.": "'8 - 10' may be hours or amounts; write 08:00",
    "On Friday 8-14 visitors come.": "",
    "Closed from 08:00 to 14.": "'08:00 to 14' names no exact time; write dates and hours",
    "The manager is back on Sunday. Output falls by 10.": "",
    "The plant may be closed on Friday.": "what may or would be",
    "Sales would fall by 10 on Friday.": "what may or would be",
    "In the last three hours sales fell by 10.": "",
    "The plant is closed for the first half of Friday.": "'first half of' names no exact time; write dates and hours",
    "The plant is closed on Friday from 18 onwards.": "'from 18' may be hours or amounts; write 08:00",
    "The plant is closed on Friday until 14.": "'Friday until 14' names no exact time; write dates and hours",
    "Open on Friday from 10 to 18, closed otherwise.": "",
    "Our office has 8 to 14 desks.": "",
    "The lift holds 8 people.": "",
    "The festival draws 5000 people on Saturday.": "",
    "The train to Platform 9 leaves on Friday at 10:00.": "",
    "The company was founded 20 years ago and has 3 sites.": "",
    "Last May sales rose by 50.": "",
    "A rise of 10 MW was recorded on 28 April.": "28 April = 2024-04-28, over before the forecast",
    "There are 10 fewer seats on Friday.": "",
    "Version 2 runs at 60 Hz.": "",
    "He runs 20 % faster on Friday.": "",
    "The index of 100 is reached on Friday.": "",
    "Volume 3 is out on Friday.": "",
    "The results are out on Friday.": "",
    "Sunday is down as a holiday.": "",
    "We shut the door on Friday.": "",
    "I will be out on Friday.": "",
    "On Friday the plant could, as we hear, be closed.": "what may or would be",
    "Perhaps the plant is closed on Friday.": "what may or would be",
}


@pytest.mark.parametrize("text", CHANGES)
def test_an_amount_or_a_level_is_read(text):
    assert understand(text)[0] == CHANGES[text]


@pytest.mark.parametrize("text", SHARES)
def test_a_share_of_the_usual_or_of_a_stated_capacity_is_read(text):
    assert understand(text)[0] == SHARES[text]


@pytest.mark.parametrize("text", MORE)
def test_levels_limits_and_several_sentences_are_read(text):
    assert understand(text)[0] == MORE[text]


def test_a_share_of_one_of_several_capacities_is_not_read_and_the_reason_is_given():
    text = "North has a capacity of 500 MW. South has a capacity of 300 MW. It runs at 20 % of capacity on Friday."
    assert understand(text) == ("", "the text states 2 capacities; write the value itself")
    assert understand(text.replace("300", "500")) == ("set 100 from 3 to 4", "")


@pytest.mark.parametrize("text", NO_AMOUNTS)
def test_a_number_that_is_no_amount_changes_nothing(text):
    effects, reasons = understand(text)
    assert effects == ""
    assert NO_AMOUNTS[text] in reasons if NO_AMOUNTS[text] else reasons == ""


@pytest.mark.parametrize("text", NO_SHARES)
def test_a_share_of_something_else_changes_nothing(text):
    effects, reasons = understand(text)
    assert effects == ""
    assert NO_SHARES[text] in reasons if NO_SHARES[text] else reasons == ""


@pytest.mark.parametrize("text", NO_MORE)
def test_what_only_looks_like_an_amount_or_hours_changes_nothing(text):
    effects, reasons = understand(text)
    assert effects == ""
    assert NO_MORE[text] in reasons if NO_MORE[text] else reasons == ""


BANDS = {
    "Output stays between 20 and 40 on Friday.": "floor 20 from 3 to 4 | cap 40 from 3 to 4",
    "Output must lie between 20 MW and 40 MW from 8 to 14 on Friday.":
        "floor 20 from 3 08:00 to 3 14:00 | cap 40 from 3 08:00 to 3 14:00",
    "The load is limited to between 20 and 40.": "floor 20 | cap 40",
    "Prices always stay within 1,000 to 2,000.": "floor 1000 | cap 2000",
    "Output stays between 40 and 20.": "",
    "Usually output stays between 20 and 40.": "",
    "The fair is held between 9 and 17.": "",
    "The temperature stays within 20 to 25 degrees.": "",
    "The shop remains closed between 9 and 17 on Friday.": "set 0 from 3 09:00 to 3 17:00",
}  # fmt: skip


@pytest.mark.parametrize("text", BANDS)
def test_a_band_is_a_lower_and_an_upper_limit(text):
    assert understand(text)[0] == BANDS[text]


def test_hours_are_no_amount_that_was_not_read():
    assert understand("Output rises by 10 MW on Friday from 8 to 14.") == ("add 10 from 3 08:00 to 3 14:00", "")


@pytest.mark.parametrize("module", [amounts, capacities])
def test_the_examples_hold(module):
    found = doctest.testmod(module)
    assert (found.failed, found.attempted > 0) == (0, True)
