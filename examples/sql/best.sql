-- The price is computed once, in the subquery; what is filtered there is not called for.
with priced as (
  select city, id, catalog_call('price', sqft, rooms) as price
  from 'examples/sql/houses.csv'
  where sqft is not null
)
select city, count(*) as houses, max(price) as best
from priced
where price > $least
group by city
order by best desc
